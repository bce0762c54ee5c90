import { z } from 'zod';
import {
  dropHarmless,
  flag,
  integerIn,
  isJsonObject,
  oneOf,
  textOf,
  type UnsupportedFields,
  unsupportedEverywhere,
} from './fields';
import { parseRequest } from './parse-request';

/** OpenAI's own limit of inputs per request. */
const MAX_INPUTS = 2_048;

const sharedFields = {
  truncate: flag()
    .optional()
    .meta({ description: 'Extension. Cuts texts that are too long. Default false: they are refused.' }),
  user: textOf(0, 512).optional().meta({ description: 'Accepted and not used.' }),
};
const modelField = textOf(1, 512).meta({ description: 'Id of a loaded model, as in GET /v1/models.' });

const TOKENS = 'a non-empty array of token ids';
const tokens = z.array(integerIn(0, 2 ** 31 - 1), { error: TOKENS }).min(1, { error: TOKENS });
const INPUT = `a string, an array of token ids, or an array of at most ${MAX_INPUTS} of either`;

export const embeddingRequestSchema = z
  .strictObject(
    {
      model: modelField,
      input: z
        .union(
          [
            z.string(),
            tokens,
            z.array(z.string()).min(1, { error: INPUT }).max(MAX_INPUTS, { error: INPUT }),
            z.array(tokens).min(1, { error: INPUT }).max(MAX_INPUTS, { error: INPUT }),
          ],
          { error: INPUT },
        )
        .meta({ description: 'Token ids are taken as they are, without special tokens.' }),
      encoding_format: z
        .enum(['float', 'base64'], { error: '"float" or "base64"' })
        .optional()
        .meta({ description: 'base64 is that of little-endian float32 numbers. Default float.' }),
      dimensions: integerIn(1, 2 ** 31 - 1)
        .optional()
        .meta({ description: 'Keeps this many numbers of each vector.' }),
      ...sharedFields,
    },
    { error: 'a JSON object' },
  )
  .meta({ examples: [{ model: 'all-minilm-l6-v2', input: ['a text', 'another'] }] });

const DOCUMENT = 'a string or an object with a text';
const DOCUMENTS = `an array of 1..${MAX_INPUTS} documents`;

export const rerankRequestSchema = z.strictObject(
  {
    model: modelField,
    query: z.string({ error: 'a string' }),
    documents: z
      .array(z.union([z.string(), z.strictObject({ text: z.string() })], { error: DOCUMENT }), {
        error: DOCUMENTS,
      })
      .min(1, { error: DOCUMENTS })
      .max(MAX_INPUTS, { error: DOCUMENTS }),
    top_n: integerIn(1, 2 ** 31 - 1)
      .optional()
      .meta({ description: 'Results at most. Default: all.' }),
    return_documents: flag()
      .optional()
      .meta({ description: 'Adds each document to its result. Default false.' }),
    ...sharedFields,
  },
  { error: 'a JSON object' },
);

const PREDICT = `a string, a pair [a, b], or an array of at most ${MAX_INPUTS} arrays of one string or two`;
const sequence = z
  .array(z.string(), { error: PREDICT })
  .min(1, { error: PREDICT })
  .max(2, { error: PREDICT });

export const predictRequestSchema = z.strictObject(
  {
    model: modelField.optional().meta({
      description: 'Extension. Id of a loaded model; may be left out when a single one classifies.',
    }),
    inputs: z.union(
      [
        z.string(),
        sequence,
        z.array(sequence).min(1, { error: PREDICT }).max(MAX_INPUTS, { error: PREDICT }),
      ],
      { error: PREDICT },
    ),
    raw_scores: flag().optional().meta({ description: 'Logits instead of probabilities. Default false.' }),
    truncate: sharedFields.truncate,
  },
  { error: 'a JSON object' },
);

const UNSUPPORTED: UnsupportedFields = {
  ...unsupportedEverywhere,
  truncation_direction: { why: 'texts are cut at their end', isHarmless: oneOf('right', 'Right') },
};

/** The body as the schema's type; nulls count as "not given". */
export function parsePooledRequest<Schema extends z.ZodType>(
  schema: Schema,
  body: unknown,
): z.output<Schema> {
  return parseRequest(schema, isJsonObject(body) ? dropHarmless(body, UNSUPPORTED, '') : body);
}
