import type { EmbedOptions, Model, ModelTask } from '../../engine/types';
import { AutoglmError } from '../../errors';
import type { ServedModels } from '../options';
import {
  embeddingRequestSchema,
  parsePooledRequest,
  predictRequestSchema,
  rerankRequestSchema,
} from '../wire/pooled-requests';
import { findModel, listModels } from './models';

/** A checked request to a model that makes one vector per input. */
export interface PooledCall {
  readonly task: ModelTask;
  /** Null: the one model that can do it. */
  readonly model: string | null;
  run(model: Model, signal: AbortSignal): Promise<PooledAnswer>;
}

export interface PooledAnswer {
  readonly body: object;
  readonly promptTokens: number;
}

export interface PooledEndpoint {
  readonly path: string;
  /** Throws the refusal a bad body deserves. */
  parse(body: unknown): PooledCall;
}

export const POOLED_ENDPOINTS: readonly PooledEndpoint[] = [
  { path: '/v1/embeddings', parse: embeddings },
  { path: '/v1/rerank', parse: rerank },
  { path: '/predict', parse: predict },
];

/** The model of a call, which must be able to do its task. */
export function modelFor(served: ServedModels, id: string | null, task: ModelTask): Model {
  const able = listModels(served).filter(({ info }) => info.tasks.includes(task));
  const names = able.map((model) => model.id).join(', ') || 'none';
  if (id === null) {
    const [only, ...more] = able;
    if (only !== undefined && more.length === 0) return only;
    throw new AutoglmError(
      'invalid_parameter',
      `expected model to name one of those that ${task}: ${names}`,
      {
        details: { param: 'model', where: 'body', found: 'nothing', allowed: names },
      },
    );
  }
  const model = findModel(served, id, 'model');
  if (able.includes(model)) return model;
  throw new AutoglmError(
    'invalid_parameter',
    `the model "${model.id}" cannot ${task}, only ${model.info.tasks.join(' and ')}; loaded models that can: ${names}`,
    { details: { param: 'model', where: 'body', found: model.id, allowed: names } },
  );
}

function embeddings(body: unknown): PooledCall {
  const request = parsePooledRequest(embeddingRequestSchema, body);
  const { model, input, dimensions, truncate = false, encoding_format: format = 'float' } = request;
  const texts = typeof input === 'string' ? [input] : typeof input[0] === 'number' ? [input] : input;
  return {
    task: 'embed',
    model,
    run: async (target, signal) => {
      checkDimensions(dimensions, target);
      const options: EmbedOptions = { truncate, signal, ...(dimensions === undefined ? {} : { dimensions }) };
      const result = await target.embed(texts as (string | number[])[], options);
      const { promptTokens } = result.usage;
      return {
        promptTokens,
        body: {
          object: 'list',
          data: result.embeddings.map((vector, index) => ({
            object: 'embedding',
            index,
            embedding: format === 'base64' ? toBase64(vector) : toNumbers(vector),
          })),
          model: target.id,
          usage: toUsage(promptTokens),
        },
      };
    },
  };
}

function checkDimensions(dimensions: number | undefined, { id, info }: Model): void {
  if (dimensions === undefined || info.embeddingSize === null || dimensions <= info.embeddingSize) return;
  const allowed = `an integer in 1..${info.embeddingSize}, the size of the vectors of ${id}`;
  throw new AutoglmError('invalid_parameter', `expected dimensions to be ${allowed}, got ${dimensions}`, {
    details: { param: 'dimensions', where: 'body', found: String(dimensions), allowed },
  });
}

function rerank(body: unknown): PooledCall {
  const request = parsePooledRequest(rerankRequestSchema, body);
  const { model, query, truncate = false, top_n: topN, return_documents: returnsDocuments = false } = request;
  const documents = request.documents.map((each) => (typeof each === 'string' ? each : each.text));
  return {
    task: 'rerank',
    model,
    run: async (target, signal) => {
      const kept = topN === undefined ? {} : { topN: Math.min(topN, documents.length) };
      const { results, usage } = await target.rerank(query, documents, { truncate, signal, ...kept });
      return {
        promptTokens: usage.promptTokens,
        body: {
          model: target.id,
          results: results.map(({ index, score }) => ({
            index,
            relevance_score: score,
            ...(returnsDocuments ? { document: { text: documents[index] } } : {}),
          })),
          usage: toUsage(usage.promptTokens),
        },
      };
    },
  };
}

/** A text, or a pair, answers with one list of labels; a batch with one list each. */
function predict(body: unknown): PooledCall {
  const request = parsePooledRequest(predictRequestSchema, body);
  const { model = null, inputs, truncate = false, raw_scores: raw = false } = request;
  const isBatch = Array.isArray(inputs) && Array.isArray(inputs[0]);
  const sequences = (isBatch ? inputs : [inputs]) as readonly (string | readonly string[])[];
  return {
    task: 'classify',
    model,
    run: async (target, signal) => {
      const { results, usage } = await target.classify(sequences.map(toInput), { truncate, raw, signal });
      return { promptTokens: usage.promptTokens, body: isBatch ? results : (results[0] ?? []) };
    },
  };
}

function toInput(sequence: string | readonly string[]): string | readonly [string, string] {
  if (typeof sequence === 'string') return sequence;
  const [first = '', second] = sequence;
  return second === undefined ? first : [first, second];
}

const toUsage = (promptTokens: number) => ({ prompt_tokens: promptTokens, total_tokens: promptTokens });

/** Nine digits give every float32 back. */
const toNumbers = (vector: Float32Array): number[] =>
  Array.from(vector, (value) => Number(value.toPrecision(9)));

function toBase64(vector: Float32Array): string {
  const bytes = Buffer.alloc(4 * vector.length);
  vector.forEach((value, i) => {
    bytes.writeFloatLE(value, 4 * i);
  });
  return bytes.toString('base64');
}
