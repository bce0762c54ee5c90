import { z } from 'zod';
import { refuse } from '../http-errors';

/**
 * Building blocks of the request schemas. Every schema's error text is the phrase for "what is allowed", which
 * `parseRequest` puts after "expected FIELD to be".
 */
export const numberIn = (low: number, high: number) => {
  const error = `a number in ${low}..${high}`;
  return z.number({ error }).min(low, { error }).max(high, { error });
};

export const integerIn = (low: number, high: number) => {
  const error = `an integer in ${low}..${high}`;
  return z.int({ error }).min(low, { error }).max(high, { error });
};

export const textOf = (minLength: number, maxLength: number) => {
  const error = `a string of ${minLength}..${maxLength} characters`;
  return z.string({ error }).min(minLength, { error }).max(maxLength, { error });
};

export const flag = () => z.boolean({ error: 'true or false' });

const MAX_STOPS = 16;
const MAX_STOP_BYTES = 256;
const MAX_LOGIT_BIASES = 1_024;
/** Alternatives per token; the engine's own limit. */
export const MAX_LOGPROBS = 20;
/** More than any context: the engine compares with the real one and reports both counts. */
export const MAX_TOKENS = 2 ** 31 - 1;

const STOP = `a string of 1..${MAX_STOP_BYTES} bytes`;
const stopString = z
  .string({ error: STOP })
  .min(1, { error: STOP })
  .max(MAX_STOP_BYTES, { error: STOP })
  .refine((text) => Buffer.byteLength(text) <= MAX_STOP_BYTES, { error: STOP });
const STOPS = `${STOP}, or an array of at most ${MAX_STOPS} of them`;
const LOGIT_BIAS = `an object of at most ${MAX_LOGIT_BIASES} entries from token id to a number in -100..100`;

/** What both endpoints take. Fields outside OpenAI's API say so in their description. */
export const samplingFields = (maxChoices: number) => ({
  model: textOf(1, 512).meta({ description: 'Id of a loaded model, as in GET /v1/models.' }),
  stream: flag().optional().meta({ description: 'Answers as server-sent events. Default false.' }),
  stream_options: z
    .strictObject(
      {
        include_usage: flag().optional(),
        include_obfuscation: z.literal(false, { error: 'false' }).optional(),
      },
      { error: 'an object' },
    )
    .optional()
    .meta({
      description: 'include_usage adds a last chunk with the usage and no choices. Needs stream: true.',
    }),
  n: integerIn(1, maxChoices).optional().meta({
    description:
      'Answers per prompt, computed together. Answer i uses seed + i, so answer 0 is that of n: 1. Default 1.',
  }),
  stop: z
    .union([stopString, z.array(stopString, { error: STOPS }).max(MAX_STOPS, { error: STOPS })], {
      error: STOPS,
    })
    .optional()
    .meta({ description: 'The answer ends before the first of these.' }),
  seed: integerIn(0, Number.MAX_SAFE_INTEGER).optional().meta({
    description:
      'The same seed, prompt and settings give the same answer, whatever else runs. Default: random.',
  }),
  temperature: numberIn(0, 100)
    .optional()
    .meta({ description: '0 always takes the likeliest token. Default: the model’s own, else 1.' }),
  top_p: z
    .number({ error: 'a number above 0, at most 1' })
    .gt(0, { error: 'a number above 0, at most 1' })
    .max(1, { error: 'a number above 0, at most 1' })
    .optional(),
  top_k: integerIn(0, MAX_TOKENS).optional().meta({ description: 'Extension. 0 disables.' }),
  min_p: numberIn(0, 1).optional().meta({ description: 'Extension. 0 disables.' }),
  repetition_penalty: z
    .number({ error: 'a number above 0, at most 10' })
    .gt(0, { error: 'a number above 0, at most 10' })
    .max(10, { error: 'a number above 0, at most 10' })
    .optional()
    .meta({ description: 'Extension. Over prompt and answer; 1 disables.' }),
  presence_penalty: numberIn(-2, 2).optional(),
  frequency_penalty: numberIn(-2, 2).optional(),
  logit_bias: z
    .record(z.string().regex(/^\d{1,10}$/, { error: LOGIT_BIAS }), numberIn(-100, 100), { error: LOGIT_BIAS })
    .refine((biases) => Object.keys(biases).length <= MAX_LOGIT_BIASES, { error: LOGIT_BIAS })
    .optional()
    .meta({ description: 'Token id to a number added to its logit.' }),
  max_tokens: integerIn(1, MAX_TOKENS)
    .optional()
    .meta({ description: 'New tokens at most. Default: what is left of the context.' }),
  ignore_eos: flag()
    .optional()
    .meta({ description: 'Extension. Goes on after the model’s end-of-text tokens.' }),
  cache_salt: textOf(1, 256).optional().meta({
    description:
      'Extension. Prompts share cached prefixes only with requests of the same salt (and the same API key).',
  }),
  user: textOf(0, 512).optional().meta({ description: 'Accepted and not used.' }),
  safety_identifier: textOf(0, 512).optional().meta({ description: 'Accepted and not used.' }),
  prompt_cache_key: textOf(0, 512)
    .optional()
    .meta({ description: 'Accepted and not used: the prefix cache needs no key.' }),
  metadata: z
    .record(z.string().max(64), z.string().max(512), { error: 'an object of at most 16 strings' })
    .refine((entries) => Object.keys(entries).length <= 16, { error: 'an object of at most 16 strings' })
    .optional()
    .meta({ description: 'Accepted and not used.' }),
});

/** A known field this version cannot honour, unless its value asks for nothing. */
export interface UnsupportedField {
  readonly why: string;
  readonly isHarmless: (value: unknown) => boolean;
}
export type UnsupportedFields = Readonly<Record<string, UnsupportedField>>;

export const oneOf =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value);
export const never = (): boolean => false;
export const isEmptyArray = (value: unknown): boolean => Array.isArray(value) && value.length === 0;

export const unsupportedEverywhere: UnsupportedFields = {
  service_tier: { why: 'there is one tier', isHarmless: oneOf('auto', 'default') },
};

export type JsonObject = Readonly<Record<string, unknown>>;
export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Leaves out nulls, which mean "not given", and harmless values of unsupported fields; refuses the others by name. */
export function dropHarmless(fields: JsonObject, unsupported: UnsupportedFields, path: string): JsonObject {
  const kept: [string, unknown][] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (value === null) continue;
    const rule = Object.hasOwn(unsupported, name) ? unsupported[name] : undefined;
    if (rule === undefined) kept.push([name, value]);
    else if (!rule.isHarmless(value))
      throw refuse('unsupported_parameter', `${path}${name} is not supported by this version: ${rule.why}`, {
        param: path + name,
        where: 'body',
      });
  }
  return Object.fromEntries(kept);
}
