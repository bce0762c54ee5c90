import { z } from 'zod';
import type { ChatMessage, GenerateOptions } from '../../engine/types';
import { refuse } from '../http-errors';
import type { ServerLimits } from '../options';
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
  textOf,
  type UnsupportedFields,
  unsupportedEverywhere,
} from './fields';
import { describeValue, parseRequest } from './parse-request';
import { checkStreamOptions, toSampling } from './sampling';

const CONTENT = 'a string or an array of {"type": "text", "text": STRING}';
const textPart = z.strictObject(
  { type: z.literal('text', { error: '"text"' }), text: z.string({ error: 'a string' }) },
  { error: '{"type": "text", "text": STRING}' },
);
const ROLES = ['system', 'developer', 'user', 'assistant'] as const;
const message = z.strictObject(
  {
    role: z.enum(ROLES, { error: `one of ${ROLES.join(', ')}` }),
    content: z.union([z.string(), z.array(textPart).min(1, { error: CONTENT })], { error: CONTENT }),
    name: textOf(1, 64).optional(),
  },
  { error: 'an object with role and content' },
);

const messagesOf = (maxMessages: number) => {
  const error = `an array of 1..${maxMessages} messages`;
  // In two steps, so that an array too long costs nothing more.
  return z.array(z.unknown(), { error }).min(1, { error }).max(maxMessages, { error }).pipe(z.array(message));
};

export const chatRequestSchema = (limits: ServerLimits) =>
  z
    .strictObject(
      {
        messages: messagesOf(limits.messages),
        ...samplingFields(limits.choices),
        max_completion_tokens: integerIn(1, MAX_TOKENS)
          .optional()
          .meta({ description: 'The newer name of max_tokens.' }),
        logprobs: flag().optional().meta({ description: 'Adds the log-probability of each token.' }),
        top_logprobs: integerIn(0, MAX_LOGPROBS)
          .optional()
          .meta({ description: 'Alternatives per token. Needs logprobs: true.' }),
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

const TOOLS = 'models here cannot call tools yet';
const UNSUPPORTED: UnsupportedFields = {
  ...unsupportedEverywhere,
  tools: { why: TOOLS, isHarmless: isEmptyArray },
  tool_choice: { why: TOOLS, isHarmless: oneOf('none') },
  parallel_tool_calls: { why: TOOLS, isHarmless: oneOf(true, false) },
  functions: { why: TOOLS, isHarmless: isEmptyArray },
  function_call: { why: TOOLS, isHarmless: oneOf('none') },
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

/** Answers that a client sends back as history carry these, empty. */
const UNSUPPORTED_IN_MESSAGE: UnsupportedFields = {
  tool_calls: { why: TOOLS, isHarmless: isEmptyArray },
  tool_call_id: { why: TOOLS, isHarmless: never },
  function_call: { why: TOOLS, isHarmless: never },
  audio: { why: 'messages are text', isHarmless: never },
  refusal: { why: 'send it as content', isHarmless: oneOf('') },
  annotations: { why: 'messages are text', isHarmless: isEmptyArray },
};

function checkMessage(value: unknown, index: number): unknown {
  if (!isJsonObject(value)) return value;
  const path = `messages[${index}]`;
  const { role, content } = value;
  if (role === 'tool' || role === 'function')
    throw refuse(
      'unsupported_parameter',
      `${path}.role "${role}" is not supported by this version: ${TOOLS}`,
      {
        param: `${path}.role`,
        where: 'body',
        found: role,
        allowed: ROLES.join(', '),
      },
    );
  for (const [i, part] of (Array.isArray(content) ? content : []).entries()) {
    const type = isJsonObject(part) ? part.type : undefined;
    if (typeof type === 'string' && type !== 'text')
      throw refuse(
        'unsupported_parameter',
        `${path}.content[${i}] is not supported by this version: models here read text`,
        {
          param: `${path}.content[${i}].type`,
          where: 'body',
          found: describeValue(type, true),
          allowed: '"text"',
        },
      );
  }
  return dropHarmless(value, UNSUPPORTED_IN_MESSAGE, `${path}.`);
}

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

function toMessage({ role, content, name }: ChatRequest['messages'][number]): ChatMessage {
  const text = typeof content === 'string' ? content : content.map((part) => part.text).join('');
  return { role, content: text, ...(name === undefined ? {} : { name }) };
}

/** The engine's options for one answer to this request. */
export function chatToGenerate(request: ChatRequest): GenerateOptions {
  const maxTokens = request.max_tokens ?? request.max_completion_tokens;
  return {
    ...toSampling(request),
    messages: request.messages.map(toMessage),
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(request.logprobs === true ? { logprobs: request.top_logprobs ?? 0 } : {}),
    ...(request.chat_template_kwargs === undefined ? {} : { templateOptions: request.chat_template_kwargs }),
  };
}
