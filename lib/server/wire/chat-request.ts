import { z } from 'zod';
import type { GenerateOptions } from '../../engine/types';
import { refuse } from '../http-errors';
import type { ServerLimits } from '../options';
import { checkMessage, messagesOf, toMessage } from './chat-messages';
import { toolFields, toToolOptions } from './chat-tools';
import {
  dropHarmless,
  flag,
  integerIn,
  isEmptyArray,
  isJsonObject,
  type JsonObject,
  MAX_LOGPROBS,
  MAX_TOKENS,
  never,
  oneOf,
  samplingFields,
  type UnsupportedFields,
  unsupportedEverywhere,
} from './fields';
import { parseRequest } from './parse-request';
import { checkStreamOptions, toSampling } from './sampling';

export const chatRequestSchema = (limits: ServerLimits) =>
  z
    .strictObject(
      {
        messages: messagesOf(limits.messages),
        ...toolFields(),
        ...samplingFields(limits.choices),
        max_completion_tokens: integerIn(1, MAX_TOKENS)
          .optional()
          .meta({ description: 'The newer name of max_tokens.' }),
        logprobs: flag().optional().meta({ description: 'Adds the log-probability of each token.' }),
        top_logprobs: integerIn(0, MAX_LOGPROBS)
          .optional()
          .meta({ description: 'Alternatives per token. Needs logprobs: true.' }),
        reasoning_budget: integerIn(1, MAX_TOKENS).optional().meta({
          description: 'Extension. Tokens of reasoning at most; then the answer begins.',
        }),
        chat_template_kwargs: z.record(z.string(), z.unknown(), { error: 'an object' }).optional().meta({
          description: 'Extension. Variables for the model’s chat template, e.g. {"enable_thinking": false}.',
        }),
      },
      { error: 'a JSON object' },
    )
    .meta({
      examples: [
        {
          model: 'smollm2-135m-instruct',
          messages: [{ role: 'user', content: 'Why is the sky blue?' }],
          max_tokens: 64,
          seed: 7,
        },
      ],
    });

export type ChatRequest = z.output<ReturnType<typeof chatRequestSchema>>;

const UNSUPPORTED: UnsupportedFields = {
  ...unsupportedEverywhere,
  functions: { why: 'use tools', isHarmless: isEmptyArray },
  function_call: { why: 'use tool_choice', isHarmless: oneOf('none') },
  response_format: {
    why: 'answers are free text; JSON output cannot be enforced yet',
    isHarmless: (value) => isJsonObject(value) && value.type === 'text',
  },
  modalities: {
    why: 'answers are text',
    isHarmless: (value) => Array.isArray(value) && value.length === 1 && value[0] === 'text',
  },
  audio: { why: 'answers are text', isHarmless: never },
  prediction: { why: 'predicted outputs are not used', isHarmless: never },
  web_search_options: { why: 'the server never searches the web', isHarmless: never },
  reasoning_effort: { why: 'set the template’s own variable in chat_template_kwargs', isHarmless: never },
  verbosity: { why: 'say in a message how long the answer should be', isHarmless: oneOf('medium') },
  store: { why: 'nothing is stored', isHarmless: oneOf(false) },
};

/** Checks a chat request down to each message; unknown and unsupported fields are refused by name. */
export function parseChatRequest(schema: ReturnType<typeof chatRequestSchema>, body: unknown): ChatRequest {
  if (!isJsonObject(body)) return parseRequest(schema, body);
  const fields: JsonObject = dropHarmless(body, UNSUPPORTED, '');
  const messages = fields.messages;
  const request = parseRequest(
    schema,
    Array.isArray(messages) ? { ...fields, messages: messages.map(checkMessage) } : fields,
  );
  checkStreamOptions(request);
  if (request.top_logprobs !== undefined && request.logprobs !== true)
    throw refuse('malformed_request', 'top_logprobs needs logprobs: true', {
      param: 'top_logprobs',
      where: 'body',
    });
  const { max_tokens: maxTokens, max_completion_tokens: newName } = request;
  if (maxTokens !== undefined && newName !== undefined && maxTokens !== newName)
    throw refuse(
      'malformed_request',
      'max_tokens and max_completion_tokens are two names of one limit and differ',
      {
        param: 'max_completion_tokens',
        where: 'body',
      },
    );
  return request;
}

/** The engine's options for one answer to this request. */
export function chatToGenerate(request: ChatRequest): GenerateOptions {
  const maxTokens = request.max_tokens ?? request.max_completion_tokens;
  return {
    ...toSampling(request),
    messages: request.messages.map(toMessage),
    ...toToolOptions(request),
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(request.logprobs === true ? { logprobs: request.top_logprobs ?? 0 } : {}),
    ...(request.reasoning_budget === undefined ? {} : { reasoningBudget: request.reasoning_budget }),
    ...(request.chat_template_kwargs === undefined ? {} : { templateOptions: request.chat_template_kwargs }),
  };
}
