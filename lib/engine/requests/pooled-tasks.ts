import { AutoglmError } from '../../errors';
import type { LabelsOutput } from '../../model/families/pooled-output';
import { Pooling, RequestKind } from '../../native/abi';
import { monotonicMs } from '../clock';
import { invalidParameter } from '../parameters';
import type { LoadedText, TextService } from '../text/types';
import type {
  ClassifyOptions,
  ClassifyResult,
  EmbeddingPooling,
  EmbedOptions,
  EmbedResult,
  LabelScore,
  ModelTask,
  PooledOptions,
  RerankOptions,
  RerankResult,
} from '../types';
import { evaluate } from './evaluation';
import {
  type PooledInput,
  parseClassifyOptions,
  parseEmbedOptions,
  parseRerankOptions,
  parseTexts,
} from './pooled-options';
import type { RequestTable } from './request-table';

export function tasksOf({ hasLanguageHead, pooled }: LoadedText): readonly ModelTask[] {
  if (pooled.kind === 'embedding') return hasLanguageHead ? ['generate', 'embed'] : ['embed'];
  return pooled.labels.length === 1 ? ['classify', 'rerank'] : ['classify'];
}

export interface PooledTaskParts {
  readonly modelId: string;
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly loaded: LoadedText;
  readonly text: TextService;
  readonly requests: RequestTable;
  /** Inputs of one call in the engine at once. */
  readonly maxConcurrency: number;
  /** Calls that may be pending, so that a flood does not reach the text workers. */
  readonly maxPending: number;
}

interface Vectors {
  readonly vectors: readonly Float32Array[];
  readonly promptTokens: number;
  readonly truncated: readonly number[];
}

/** Everything a model does that ends in one vector per input: embeddings, labels, relevance. */
export class PooledTasks {
  readonly #parts: PooledTaskParts;
  #numPending = 0;

  constructor(parts: PooledTaskParts) {
    this.#parts = parts;
  }

  /** Throws unless the model can do it, naming what it can. */
  require(task: ModelTask): void {
    const { modelId, loaded } = this.#parts;
    const tasks = tasksOf(loaded);
    if (tasks.includes(task)) return;
    const needs = {
      generate: 'a language model',
      embed: 'a model without a classification head',
      classify: 'a model with a classification head',
      rerank: 'a cross encoder: a classification head with one label',
    }[task];
    throw new AutoglmError(
      'unsupported_model',
      `the model ${modelId} cannot ${task}: that takes ${needs}; this one can ${tasks.join(' and ')}`,
      { hint: 'Load another model for it.', details: { model: modelId, task, tasks } },
    );
  }

  async embed(texts: unknown, options: EmbedOptions): Promise<EmbedResult> {
    this.require('embed');
    const { pooled, pooledSize } = this.#parts.loaded;
    if (pooled.kind !== 'embedding') throw new AutoglmError('internal', 'embeddings of a classifier');
    const parsed = parseEmbedOptions(options, pooledSize);
    const prompt = promptText(pooled.prompts, parsed.prompt ?? pooled.defaultPrompt);
    const { vocabSize } = this.#parts;
    const inputs = parseTexts(texts, 'texts', { vocabSize, takesPairs: false }).map((input) =>
      'text' in input ? { ...input, text: prompt + input.text } : input,
    );
    const pooling = parsed.pooling ?? pooled.pooling;
    if (pooling === null) throw poolingUnknown(this.#parts.modelId);
    const { contextLength } = this.#parts;
    const maxTokens = Math.min(contextLength, pooled.maxLength ?? contextLength);
    const { vectors, promptTokens, truncated } = await this.#run(inputs, 'texts', pooling, maxTokens, parsed);
    const normalizes = parsed.normalize ?? pooled.normalizes;
    const { dimensions = pooledSize } = parsed;
    const embeddings = vectors.map((vector) => {
      const kept = dimensions === vector.length ? vector : vector.slice(0, dimensions);
      return normalizes ? normalized(kept) : kept;
    });
    return { embeddings, usage: { promptTokens }, truncated };
  }

  async classify(inputs: unknown, options: ClassifyOptions): Promise<ClassifyResult> {
    this.require('classify');
    const head = this.#labels();
    const parsed = parseClassifyOptions(options);
    const texts = parseTexts(inputs, 'inputs', { vocabSize: null, takesPairs: true });
    const { contextLength } = this.#parts;
    const { vectors, ...rest } = await this.#run(texts, 'inputs', head.pooling, contextLength, parsed);
    const results = vectors.map((vector) => {
      const scores = parsed.raw === true ? vector : scored(head, vector);
      const byLabel = Array.from(
        scores,
        (score, i): LabelScore => ({ label: head.labels[i] ?? `LABEL_${i}`, score }),
      );
      return byLabel.sort((a, b) => b.score - a.score);
    });
    return { results, usage: { promptTokens: rest.promptTokens }, truncated: rest.truncated };
  }

  async rerank(query: unknown, documents: unknown, options: RerankOptions): Promise<RerankResult> {
    this.require('rerank');
    const head = this.#labels();
    const parsed = parseRerankOptions(options);
    if (typeof query !== 'string') throw invalidParameter('query', 'a string', query);
    if (!Array.isArray(documents)) throw invalidParameter('documents', 'an array of strings', documents);
    const texts = parseTexts(documents, 'documents', { vocabSize: null, takesPairs: false });
    const pairs = texts.map((input) => ('text' in input ? { text: query, second: input.text } : input));
    const { contextLength } = this.#parts;
    const { vectors, ...rest } = await this.#run(pairs, 'documents', head.pooling, contextLength, parsed);
    const results = vectors.map((vector, index) => {
      const [score = Number.NaN] = parsed.raw === true ? vector : scored(head, vector);
      return { index, score };
    });
    results.sort((a, b) => b.score - a.score || a.index - b.index);
    return {
      results: results.slice(0, parsed.topN ?? results.length),
      usage: { promptTokens: rest.promptTokens },
      truncated: rest.truncated,
    };
  }

  #labels(): LabelsOutput {
    const { pooled } = this.#parts.loaded;
    if (pooled.kind === 'labels') return pooled;
    throw new AutoglmError('internal', 'labels of a model without a classification head');
  }

  /** Runs the inputs, a window of them at a time. The first failure ends the call, once no other input runs. */
  async #run(
    inputs: readonly PooledInput[],
    path: string,
    pooling: EmbeddingPooling,
    maxTokens: number,
    options: PooledOptions,
  ): Promise<Vectors> {
    const { maxPending, maxConcurrency } = this.#parts;
    if (this.#numPending >= maxPending) throw tooManyPending(maxPending);
    this.#numPending += 1;
    const failure = new AbortController();
    const signal =
      options.signal === undefined ? failure.signal : AbortSignal.any([options.signal, failure.signal]);
    const { truncate = false, priority = 0, timeout } = options;
    const deadline = timeout === undefined ? null : monotonicMs() + timeout;
    const vectors = new Array<Float32Array>(inputs.length);
    const truncated: number[] = [];
    let promptTokens = 0;
    let next = 0;
    const work = async (): Promise<void> => {
      for (let i = next++; i < inputs.length && !failure.signal.aborted; i = next++) {
        try {
          const encoded = await this.#encode(inputs[i] as PooledInput, maxTokens, truncate, signal);
          if (encoded.fullLength > encoded.tokens.length) truncated.push(i);
          promptTokens += encoded.tokens.length;
          const { tokens, secondSegment } = encoded;
          vectors[i] = await this.#vector(tokens, pooling, { secondSegment, priority, deadline, signal });
        } catch (error) {
          failure.abort(inputs.length === 1 ? error : located(error, `${path}[${i}]`));
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(maxConcurrency, inputs.length) }, work));
    this.#numPending -= 1;
    if (failure.signal.aborted) throw failure.signal.reason;
    return { vectors, promptTokens, truncated: truncated.sort((a, b) => a - b) };
  }

  async #encode(input: PooledInput, maxTokens: number, truncates: boolean, signal: AbortSignal) {
    if ('text' in input) {
      return this.#parts.text.encodeInput(this.#parts.modelId, { ...input, maxTokens, truncates }, signal);
    }
    const { tokens } = input;
    if (tokens.length > maxTokens && !truncates) {
      throw new AutoglmError(
        'context_length_exceeded',
        `the input has ${tokens.length} tokens, the model takes ${maxTokens}`,
        { details: { promptTokens: tokens.length, contextLength: maxTokens } },
      );
    }
    return { tokens: tokens.slice(0, maxTokens), secondSegment: 0, fullLength: tokens.length };
  }

  #vector(
    tokens: Int32Array,
    pooling: EmbeddingPooling,
    settings: {
      readonly secondSegment: number;
      readonly priority: number;
      readonly deadline: number | null;
      readonly signal: AbortSignal;
    },
  ): Promise<Float32Array> {
    const { requests, loaded } = this.#parts;
    return evaluate(requests, {
      kind: RequestKind.pool,
      tokens,
      positions: new Int32Array(0),
      outputLength: loaded.pooledSize,
      pooling: Pooling[pooling],
      adapter: 0,
      ...settings,
    });
  }
}

/** The same error, saying which input it is about. */
function located(error: unknown, path: string): unknown {
  if (!AutoglmError.is(error) || error.code === 'aborted') return error;
  const { code, message, hint, details, retryable, cause } = error;
  return new AutoglmError(code, `${path}: ${message}`, {
    details: { ...details, path },
    retryable,
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });
}

function promptText(prompts: Readonly<Record<string, string>>, name: string | null): string {
  if (name === null) return '';
  const text = Object.hasOwn(prompts, name) ? prompts[name] : undefined;
  if (text !== undefined) return text;
  const names = Object.keys(prompts);
  const allowed = names.length === 0 ? 'absent: the model has no prompts' : `one of ${names.join(', ')}`;
  throw invalidParameter('prompt', allowed, name);
}

/** Zero vectors stay as they are. */
function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return length > 0 ? vector.map((value) => value / length) : vector;
}

function scored({ scoring }: LabelsOutput, logits: Float32Array): Float64Array {
  const values = Float64Array.from(logits);
  if (scoring === 'sigmoid') return values.map((value) => 1 / (1 + Math.exp(-value)));
  const largest = values.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
  const shares = values.map((value) => Math.exp(value - largest));
  const total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => share / total);
}

function poolingUnknown(modelId: string): AutoglmError {
  return new AutoglmError(
    'invalid_parameter',
    `expected pooling to be one of 'first', 'mean', 'last': the files of ${modelId} do not say how its hidden states ` +
      'become one vector',
    {
      hint: 'Encoders mostly take the mean, language models the last token.',
      details: { path: 'pooling', found: 'nothing', allowed: 'first, mean, last' },
    },
  );
}

function tooManyPending(maxPending: number): AutoglmError {
  return new AutoglmError('queue_full', `${maxPending} calls are pending already; more are refused`, {
    hint: 'Try again later, or load the model with a larger maxQueuedRequests.',
    details: { pending: maxPending, allowed: maxPending },
  });
}
