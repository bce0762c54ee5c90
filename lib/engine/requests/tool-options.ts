import type { ToolDefinition } from '../../chat/tool-types';
import { AutoglmError } from '../../errors';
import { MAX_TOOLS, MAX_TOOLS_LENGTH } from '../limits';
import { boolean, type Check, invalidParameter, isWellFormed, parseObject, plainObject } from '../parameters';
import { checkJson } from './json-depth';

/** The tools of a call after validation. */
export interface ParsedTools {
  /** Empty when the model must not call any. */
  readonly tools: readonly ToolDefinition[];
  /** The tool the answer begins with a call of; `any` for whichever, null for none. */
  readonly forced: { readonly name: string } | 'any' | null;
  readonly isParallel: boolean;
}

export const NO_TOOLS: ParsedTools = { tools: [], forced: null, isParallel: true };

const toolName: Check<string> = {
  allowed: 'a name of 1..64 characters out of A-Z, a-z, 0-9, _ and -',
  accepts: (value): value is string => typeof value === 'string' && /^[\w-]{1,64}$/.test(value),
};
const anyText: Check<string> = {
  allowed: 'a well-formed string',
  accepts: (value): value is string => typeof value === 'string' && isWellFormed(value),
};
const TOOL = { name: toolName, description: anyText, parameters: plainObject, strict: boolean };

export const toolArray: Check<readonly unknown[]> = {
  allowed: `an array of at most ${MAX_TOOLS} tools`,
  accepts: (value): value is readonly unknown[] => Array.isArray(value) && value.length <= MAX_TOOLS,
};

const CHOICE = "one of 'auto', 'none', 'required', or an object { name }";

/** Checks tools; the copies share nothing with the caller's objects. */
export function parseTools(tools: unknown): readonly ToolDefinition[] {
  if (!toolArray.accepts(tools)) throw invalidParameter('tools', toolArray.allowed, tools);
  const names = new Set<string>();
  let length = 0;
  return tools.map((tool, i): ToolDefinition => {
    const path = `tools[${i}]`;
    const { name, description, parameters, strict } = parseObject(path, tool, TOOL);
    if (name === undefined) throw invalidParameter(`${path}.name`, toolName.allowed, undefined);
    if (names.has(name)) throw invalidParameter(`${path}.name`, 'the name of one tool only', name);
    names.add(name);
    checkJson(`${path}.parameters`, parameters);
    const copy = JSON.stringify(parameters ?? null);
    length += copy.length + (description?.length ?? 0);
    if (length > MAX_TOOLS_LENGTH) throw tooLong(length);
    return {
      name,
      ...(description === undefined ? {} : { description }),
      ...(parameters === undefined ? {} : { parameters: JSON.parse(copy) as Record<string, unknown> }),
      ...(strict === undefined ? {} : { strict }),
    };
  });
}

function tooLong(length: number): AutoglmError {
  return new AutoglmError(
    'invalid_parameter',
    `expected tools to have at most ${MAX_TOOLS_LENGTH} characters together, got ${length}`,
    { hint: 'Offer fewer tools, or shorten their schemas.', details: { path: 'tools', found: length } },
  );
}

/** What the choice means for these tools. With `none` the model does not hear of them, so that it cannot call any. */
export function parseToolChoice(
  choice: unknown,
  tools: readonly ToolDefinition[],
  isParallel: boolean,
): ParsedTools {
  if (choice === undefined || choice === 'auto') return { tools, forced: null, isParallel };
  if (choice === 'none') return { tools: [], forced: null, isParallel };
  if (choice !== 'required' && !plainObject.accepts(choice)) {
    throw invalidParameter('toolChoice', CHOICE, choice);
  }
  if (tools.length === 0) throw invalidParameter('toolChoice', "'auto' or 'none' without tools", choice);
  const [only] = tools;
  if (choice === 'required') {
    const forced = tools.length === 1 && only !== undefined ? { name: only.name } : 'any';
    return { tools, forced, isParallel };
  }
  const { name } = parseObject('toolChoice', choice, { name: toolName });
  if (name === undefined) throw invalidParameter('toolChoice.name', toolName.allowed, undefined);
  if (!tools.some((tool) => tool.name === name)) {
    const names = tools.map((tool) => tool.name).join(', ');
    throw invalidParameter('toolChoice.name', `the name of one of the tools (${names.slice(0, 512)})`, name);
  }
  return { tools, forced: { name }, isParallel };
}

/** As templates see tools: OpenAI's form, keys in its order. */
export function toTemplateTool({ name, description, parameters }: ToolDefinition): Record<string, unknown> {
  const declared = { name, ...(description === undefined ? {} : { description }) };
  return {
    type: 'function',
    function: { ...declared, parameters: parameters ?? { type: 'object', properties: {} } },
  };
}
