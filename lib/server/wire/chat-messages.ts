import { z } from 'zod';
import type { ChatMessage } from '../../engine/types';
import { AutoglmError } from '../../errors';
import { refuse } from '../http-errors';
import {
  dropHarmless,
  isEmptyArray,
  isJsonObject,
  never,
  oneOf,
  textOf,
  type UnsupportedFields,
} from './fields';
import { describeValue } from './parse-request';

const CONTENT = 'a string or an array of {"type": "text", "text": STRING}';
const textPart = z.strictObject(
  { type: z.literal('text', { error: '"text"' }), text: z.string({ error: 'a string' }) },
  { error: '{"type": "text", "text": STRING}' },
);
const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'] as const;
const TOOL_CALL = '{"id": STRING, "type": "function", "function": {"name": STRING, "arguments": STRING}}';
const toolCall = z.strictObject(
  {
    id: textOf(1, 256).optional(),
    type: z.literal('function', { error: '"function"' }),
    function: z.strictObject(
      { name: textOf(1, 256), arguments: z.string({ error: 'a string of JSON' }) },
      { error: TOOL_CALL },
    ),
  },
  { error: TOOL_CALL },
);
const TOOL_CALLS = 'an array of at most 1024 tool calls';
const message = z.strictObject(
  {
    role: z.enum(ROLES, { error: `one of ${ROLES.join(', ')}` }),
    content: z
      .union([z.string(), z.array(textPart).min(1, { error: CONTENT })], { error: CONTENT })
      .optional()
      .meta({ description: 'May be absent or null beside tool_calls.' }),
    name: textOf(1, 64).optional(),
    tool_calls: z
      .array(toolCall, { error: TOOL_CALLS })
      .max(1024, { error: TOOL_CALLS })
      .optional()
      .meta({ description: 'What an assistant called.' }),
    tool_call_id: textOf(1, 256).optional().meta({ description: 'Whose result a tool message is.' }),
    reasoning_content: z
      .string({ error: 'a string' })
      .optional()
      .meta({ description: 'Extension. An assistant’s thoughts, as an answer had them.' }),
  },
  { error: 'an object with role and content' },
);

export const messagesOf = (maxMessages: number) => {
  const error = `an array of 1..${maxMessages} messages`;
  // In two steps, so that an array too long costs nothing more.
  return z.array(z.unknown(), { error }).min(1, { error }).max(maxMessages, { error }).pipe(z.array(message));
};

/** Answers that a client sends back as history carry these, empty. */
const UNSUPPORTED: UnsupportedFields = {
  function_call: { why: 'use tool_calls', isHarmless: never },
  audio: { why: 'messages are text', isHarmless: never },
  refusal: { why: 'send it as content', isHarmless: oneOf('') },
  annotations: { why: 'messages are text', isHarmless: isEmptyArray },
};

/** Refuses by name what a message may not have, and leaves out what means nothing. */
export function checkMessage(value: unknown, index: number): unknown {
  if (!isJsonObject(value)) return value;
  const path = `messages[${index}]`;
  const { role, content } = value;
  if (role === 'function') {
    throw refuse('unsupported_parameter', `${path}.role "function" is not supported: use "tool"`, {
      param: `${path}.role`,
      where: 'body',
      found: role,
      allowed: ROLES.join(', '),
    });
  }
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
  const hasCalls = Array.isArray(value.tool_calls) && value.tool_calls.length > 0;
  if (!hasCalls && typeof role === 'string' && (content === undefined || content === null)) {
    throw new AutoglmError('invalid_parameter', `expected ${path}.content to be ${CONTENT}, got nothing`, {
      details: { param: `${path}.content`, where: 'body', found: 'nothing', allowed: CONTENT },
    });
  }
  const kept = dropHarmless(value, UNSUPPORTED, `${path}.`);
  return hasCalls ? { ...kept, tool_calls: (value.tool_calls as unknown[]).map(withoutParsed) } : kept;
}

/** The official client sends back what it made of the arguments beside them. */
function withoutParsed(call: unknown): unknown {
  if (!isJsonObject(call) || !isJsonObject(call.function)) return call;
  const { parsed_arguments: _, ...called } = call.function;
  return { ...call, function: called };
}

export function toMessage(given: z.output<typeof message>): ChatMessage {
  const { role, content, name, tool_calls: calls = [], tool_call_id: toolCallId, reasoning_content } = given;
  const text = Array.isArray(content) ? content.map((part) => part.text).join('') : content;
  const toolCalls = calls.map(({ id, function: called }) => ({
    ...(id === undefined ? {} : { id }),
    ...called,
  }));
  return {
    role,
    content: text ?? null,
    ...(name === undefined ? {} : { name }),
    ...(toolCalls.length === 0 ? {} : { toolCalls }),
    ...(toolCallId === undefined ? {} : { toolCallId }),
    ...(reasoning_content === undefined ? {} : { reasoning: reasoning_content }),
  };
}
