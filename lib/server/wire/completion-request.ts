import { z } from 'zod';
import type { GenerateOptions } from '../../engine/types';
import type { ServerLimits } from '../options';
import {
  dropHarmless,
  integerIn,
  isJsonObject,
  MAX_LOGPROBS,
  never,
  oneOf,
  samplingFields,
  type UnsupportedFields,
  unsupportedEverywhere,
} from './fields';
import { parseRequest } from './parse-request';
import { checkStreamOptions, toSampling } from './sampling';

const TOKENS = 'a non-empty array of token ids';
const tokens = z.array(integerIn(0, 2 ** 31 - 1), { error: TOKENS }).min(1, { error: TOKENS });

const promptOf = (maxPrompts: number) => {
  const error = `a string, an array of token ids, or an array of at most ${maxPrompts} of either`;
  return z.union(
    [
      z.string(),
      tokens,
      z.array(z.string()).min(1, { error }).max(maxPrompts, { error }),
      z.array(tokens).min(1, { error }).max(maxPrompts, { error }),
    ],
    { error },
  );
};

export const completionRequestSchema = (limits: ServerLimits) =>
  z
    .strictObject(
      {
        prompt: promptOf(limits.prompts).meta({
          description:
            'Raw text (special tokens in it are plain text) or token ids; several prompts are computed together.',
        }),
        ...samplingFields(limits.choices),
        logprobs: integerIn(0, MAX_LOGPROBS)
          .optional()
          .meta({ description: 'Adds log-probabilities of each token and this many alternatives.' }),
      },
      { error: 'a JSON object' },
    )
    .meta({
      examples: [
        { model: 'smollm2-135m-instruct', prompt: 'The capital of France is', max_tokens: 8, temperature: 0 },
      ],
    });

export type CompletionRequest = z.output<ReturnType<typeof completionRequestSchema>>;

const UNSUPPORTED: UnsupportedFields = {
  ...unsupportedEverywhere,
  best_of: { why: 'every answer computed is returned; use n', isHarmless: oneOf(1) },
  echo: { why: 'the answer does not repeat the prompt', isHarmless: oneOf(false) },
  suffix: { why: 'models here continue a text and do not fill gaps', isHarmless: oneOf('') },
  tools: { why: 'tools belong to chat completions', isHarmless: never },
  response_format: {
    why: 'answers are free text; JSON output cannot be enforced yet',
    isHarmless: (value) => isJsonObject(value) && value.type === 'text',
  },
  store: { why: 'nothing is stored', isHarmless: oneOf(false) },
};

export function parseCompletionRequest(
  schema: ReturnType<typeof completionRequestSchema>,
  body: unknown,
): CompletionRequest {
  const request = parseRequest(schema, isJsonObject(body) ? dropHarmless(body, UNSUPPORTED, '') : body);
  checkStreamOptions(request);
  return request;
}

/** The engine's options for one answer to each prompt of this request. */
export function completionToGenerate(request: CompletionRequest): readonly GenerateOptions[] {
  const { prompt, max_tokens: maxTokens, logprobs } = request;
  const shared: GenerateOptions = {
    ...toSampling(request),
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(logprobs === undefined ? {} : { logprobs }),
  };
  const prompts = typeof prompt === 'string' || typeof prompt[0] === 'number' ? [prompt] : prompt;
  return prompts.map((one) =>
    typeof one === 'string' ? { ...shared, prompt: one } : { ...shared, tokens: one as number[] },
  );
}
