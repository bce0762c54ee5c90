import { parseJson } from '../../chat/output/json-value';
import { AutoglmError } from '../../errors';
import {
  type Check,
  invalidParameter,
  isWellFormed,
  oneOf,
  parseObject,
  plainObject,
  text,
} from '../parameters';
import type { ChatRole } from '../types';
import { checkJson } from './json-depth';

/** A message after validation. */
export interface ParsedMessage {
  readonly role: ChatRole;
  readonly content: string;
  readonly name: string | null;
  readonly reasoning: string | null;
  readonly toolCalls: readonly ParsedToolCall[];
  readonly toolCallId: string | null;
}

interface ParsedToolCall {
  readonly id: string | null;
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

const MAX_MESSAGES = 100_000;
/** Of one message. */
const MAX_TOOL_CALLS = 1024;

export const messageArray: Check<readonly unknown[]> = {
  allowed: `an array of 1..${MAX_MESSAGES} messages`,
  accepts: (value): value is readonly unknown[] =>
    Array.isArray(value) && value.length >= 1 && value.length <= MAX_MESSAGES,
};

const anyText: Check<string> = {
  allowed: 'a string',
  accepts: (value): value is string => typeof value === 'string',
};
const textOrNull: Check<string | null> = {
  allowed: 'a string, or null beside tool calls',
  accepts: (value): value is string | null => value === null || typeof value === 'string',
};
const callArray: Check<readonly unknown[]> = {
  allowed: `an array of at most ${MAX_TOOL_CALLS} calls`,
  accepts: (value): value is readonly unknown[] => Array.isArray(value) && value.length <= MAX_TOOL_CALLS,
};
const objectOrText: Check<string | Readonly<Record<string, unknown>>> = {
  allowed: 'an object, or the JSON text of one',
  accepts: (value): value is string | Readonly<Record<string, unknown>> =>
    typeof value === 'string' || plainObject.accepts(value),
};

const MESSAGE = {
  role: oneOf('system', 'user', 'assistant', 'tool', 'developer'),
  content: textOrNull,
  name: text(1, 256),
  toolCalls: callArray,
  toolCallId: text(1, 256),
  reasoning: anyText,
};
const TOOL_CALL = { id: text(1, 256), name: text(1, 256), arguments: objectOrText };

/** Longer texts are refused by the text worker, which knows how long a token can be. */
export function checkWellFormed(path: string, value: string, maxTextLength: number): void {
  if (value.length <= maxTextLength && !isWellFormed(value)) {
    throw invalidParameter(path, 'text without lone surrogates', value);
  }
}

/** `maxTextLength`: characters a text may have. */
export function parseMessages(messages: unknown, maxTextLength: number): readonly ParsedMessage[] {
  if (!messageArray.accepts(messages)) throw invalidParameter('messages', messageArray.allowed, messages);
  const list = messages.map((message, i) => parseMessage(`messages[${i}]`, message, maxTextLength));
  checkResults(list);
  return list;
}

function parseMessage(path: string, message: unknown, maxTextLength: number): ParsedMessage {
  const fields = parseObject(path, message, MESSAGE);
  const { role, content = null, name = null, toolCalls = [], toolCallId = null, reasoning = null } = fields;
  if (role === undefined) throw invalidParameter(`${path}.role`, MESSAGE.role.allowed, undefined);
  if (content === null && toolCalls.length === 0) {
    throw invalidParameter(`${path}.content`, anyText.allowed, fields.content);
  }
  if (role !== 'assistant' && toolCalls.length > 0) throw onlyFor(`${path}.toolCalls`, 'assistant');
  if (role !== 'assistant' && reasoning !== null) throw onlyFor(`${path}.reasoning`, 'assistant');
  if (role !== 'tool' && toolCallId !== null) throw onlyFor(`${path}.toolCallId`, 'tool');
  checkWellFormed(`${path}.content`, content ?? '', maxTextLength);
  checkWellFormed(`${path}.reasoning`, reasoning ?? '', maxTextLength);
  const calls = toolCalls.map((call, i) => parseCall(`${path}.toolCalls[${i}]`, call));
  return { role, content: content ?? '', name, reasoning, toolCalls: calls, toolCallId };
}

function onlyFor(path: string, role: ChatRole): AutoglmError {
  return new AutoglmError('invalid_parameter', `${path} is for messages of role '${role}' only`, {
    details: { path, allowed: role },
  });
}

function parseCall(path: string, call: unknown): ParsedToolCall {
  const { id = null, name, arguments: given } = parseObject(path, call, TOOL_CALL);
  if (name === undefined) throw invalidParameter(`${path}.name`, TOOL_CALL.name.allowed, undefined);
  if (given === undefined) throw invalidParameter(`${path}.arguments`, objectOrText.allowed, undefined);
  return { id, name, arguments: argumentsOf(`${path}.arguments`, given) };
}

/** Templates take arguments apart, so they get the object. */
function argumentsOf(
  path: string,
  given: string | Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  // Empty text is how some clients send a call without arguments.
  const value = typeof given === 'string' ? parseJson(given || '{}') : given;
  if (!plainObject.accepts(value)) throw invalidParameter(path, objectOrText.allowed, given);
  checkJson(path, value);
  return typeof given === 'string' ? value : structuredClone(value);
}

/** A result follows the calls it belongs to; one that names a call names one of them. */
function checkResults(messages: readonly ParsedMessage[]): void {
  let calls: readonly ParsedToolCall[] = [];
  for (const [i, message] of messages.entries()) {
    if (message.role !== 'tool') {
      calls = message.toolCalls;
      continue;
    }
    const path = `messages[${i}]`;
    if (calls.length === 0) {
      throw new AutoglmError(
        'invalid_parameter',
        `${path} is a tool's result, but no tool call comes before it`,
        {
          hint: 'Put the assistant message with toolCalls first.',
          details: { path },
        },
      );
    }
    const { toolCallId } = message;
    const ids = calls.map(({ id }) => id);
    if (toolCallId === null || ids.includes(null) || ids.includes(toolCallId)) continue;
    throw invalidParameter(`${path}.toolCallId`, 'the id of one of the tool calls before it', toolCallId);
  }
}

/** As templates see messages: OpenAI's names, arguments as objects, absent fields absent. */
export function toTemplateMessage(message: ParsedMessage): Record<string, unknown> {
  const { role, content, name, reasoning, toolCalls, toolCallId } = message;
  return {
    role,
    content,
    ...(name === null ? {} : { name }),
    ...(reasoning === null ? {} : { reasoning_content: reasoning }),
    ...(toolCallId === null ? {} : { tool_call_id: toolCallId }),
    ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls.map(toTemplateCall) }),
  };
}

function toTemplateCall({ id, name, arguments: given }: ParsedToolCall): Record<string, unknown> {
  return {
    ...(id === null ? {} : { id }),
    type: 'function',
    function: { name, arguments: given },
  };
}
