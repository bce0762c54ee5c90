import { z } from 'zod';

/** What the server answers, field by field: types for the code, schemas for the OpenAPI document and the tests. */
const id = z.string();
const created = z.int().meta({ description: 'Unix time in seconds.' });
const index = z.int().min(0);
const finishReason = z.enum(['stop', 'length']);
const chatFinishReason = z.enum(['stop', 'length', 'tool_calls']);
const bytes = z.array(z.int());

export const usageSchema = z.strictObject({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.strictObject({
    cached_tokens: z.int().meta({ description: 'Prompt tokens the prefix cache had.' }),
    audio_tokens: z.literal(0),
  }),
  completion_tokens_details: z.strictObject({
    reasoning_tokens: z.int().meta({ description: 'Completion tokens that belong to the reasoning.' }),
    accepted_prediction_tokens: z.int().meta({ description: 'Completion tokens that speculation guessed.' }),
    rejected_prediction_tokens: z
      .int()
      .meta({ description: 'Wrong guesses; not among the completion tokens.' }),
  }),
});
export type WireUsage = z.output<typeof usageSchema>;

const warnings = z
  .array(z.strictObject({ code: z.string(), message: z.string() }))
  .optional()
  .meta({ description: 'Extension. Present only when there are any.' });

const tokenLogprob = z.strictObject({ token: z.string(), logprob: z.number(), bytes });
const chatLogprobs = z.strictObject({
  content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
  refusal: z.null(),
});
export type ChatLogprobs = z.output<typeof chatLogprobs>;

const reasoningContent = z.string().optional().meta({ description: 'Extension. What the model thought.' });
const toolCall = z.strictObject({
  id: z.string(),
  type: z.literal('function'),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
});
/** The first one of a call has its id and name; arguments are to be joined. */
const toolCallDelta = z.strictObject({
  index,
  id: z.string().optional(),
  type: z.literal('function').optional(),
  function: z.strictObject({ name: z.string().optional(), arguments: z.string() }),
});

export const chatCompletionSchema = z.strictObject({
  id,
  object: z.literal('chat.completion'),
  created,
  model: z.string(),
  system_fingerprint: z.string(),
  choices: z.array(
    z.strictObject({
      index,
      message: z.strictObject({
        role: z.literal('assistant'),
        content: z.string().nullable().meta({ description: 'null when the answer is tool calls alone.' }),
        reasoning_content: reasoningContent,
        tool_calls: z.array(toolCall).optional(),
        refusal: z.null(),
        annotations: z.array(z.never()),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: chatFinishReason,
    }),
  ),
  usage: usageSchema,
  warnings,
});
export type ChatCompletion = z.output<typeof chatCompletionSchema>;

export const chatChunkSchema = z.strictObject({
  id,
  object: z.literal('chat.completion.chunk'),
  created,
  model: z.string(),
  system_fingerprint: z.string(),
  choices: z.array(
    z.strictObject({
      index,
      delta: z.strictObject({
        role: z.literal('assistant').optional(),
        content: z.string().optional(),
        reasoning_content: reasoningContent,
        tool_calls: z.array(toolCallDelta).optional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: chatFinishReason.nullable(),
    }),
  ),
  usage: usageSchema.nullable().optional(),
  warnings,
});
export type ChatChunk = z.output<typeof chatChunkSchema>;

const completionLogprobs = z.strictObject({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())).nullable(),
  text_offset: z.array(z.int()),
});
export type CompletionLogprobs = z.output<typeof completionLogprobs>;

/** Completions use one shape for whole answers and for chunks; in a chunk finish_reason may be null. */
export const completionSchema = z.strictObject({
  id,
  object: z.literal('text_completion'),
  created,
  model: z.string(),
  system_fingerprint: z.string(),
  choices: z.array(
    z.strictObject({
      index,
      text: z.string(),
      logprobs: completionLogprobs.nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usageSchema.nullable().optional(),
  warnings,
});
export type Completion = z.output<typeof completionSchema>;

export const modelSchema = z.strictObject({
  id: z.string(),
  object: z.literal('model'),
  created,
  owned_by: z.string(),
  tasks: z.array(z.enum(['generate', 'embed', 'classify', 'rerank'])),
  max_model_len: z
    .int()
    .meta({ description: 'Extension. Tokens a prompt and its answer may have together.' }),
});
export type WireModel = z.output<typeof modelSchema>;
export const modelListSchema = z.strictObject({ object: z.literal('list'), data: z.array(modelSchema) });

export const healthSchema = z.strictObject({
  status: z.enum(['ok', 'stalled', 'draining', 'failed']),
  reason: z.string().nullable(),
});
export type Health = z.output<typeof healthSchema>;

export const errorSchema = z.strictObject({
  error: z.strictObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string(),
    request_id: z.string(),
    where: z.string().nullable(),
    found: z.string().nullable(),
    allowed: z.string().nullable(),
    retryable: z.boolean().meta({ description: 'Whether the same request may succeed later.' }),
    retry_after_ms: z.int().nullable(),
  }),
});
