import type { z } from 'zod';
import { AutoglmError } from '../../errors';
import { refuse } from '../http-errors';

/** What was sent, without its text: prompts have no place in an error message. Digits and, of enumerations, words are. */
export function describeValue(value: unknown, isEnumeration = false): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') {
    const isShown = isEnumeration ? /^[\w.:-]{1,32}$/.test(value) : /^[-+.\d]{1,32}$/.test(value);
    return isShown ? `"${value}"` : `a string of ${value.length} characters`;
  }
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** Of the branches of a union, the one of the right type or else the one that got furthest is what the client meant. */
function deepest(
  issue: z.core.$ZodIssue,
  prefix: readonly PropertyKey[] = [],
): { issue: z.core.$ZodIssue; path: readonly PropertyKey[] } {
  const path = [...prefix, ...issue.path];
  if (issue.code !== 'invalid_union') return { issue, path };
  const firsts = issue.errors.flatMap((branch) => branch.slice(0, 1));
  const ofRightType = firsts.find(
    ({ code, path: at }) => at.length === 0 && (code === 'too_big' || code === 'too_small'),
  );
  if (ofRightType !== undefined) return { issue: ofRightType, path };
  const branches = firsts
    .map((inner) => deepest(inner, path))
    .filter((inner) => inner.path.length > path.length)
    .sort((a, b) => b.path.length - a.path.length);
  return branches[0] ?? { issue, path };
}

const spell = (path: readonly PropertyKey[]): string =>
  path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`))
    .join('');

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let current = value;
  for (const part of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, part)) return undefined;
    current = (current as Record<PropertyKey, unknown>)[part];
  }
  return current;
}

function toError(error: z.ZodError, body: unknown): AutoglmError {
  const first = error.issues[0];
  if (first === undefined) return new AutoglmError('internal', 'a request was refused without a reason');
  const { issue, path } = deepest(first);
  if (issue.code === 'unrecognized_keys') {
    const name = spell([...path, (issue.keys[0] ?? '').slice(0, 64)]);
    return refuse('unsupported_parameter', `${name} is not a parameter this server knows`, {
      param: name,
      where: 'body',
    });
  }
  const param = spell(path);
  const found = describeValue(valueAt(body, path), issue.code === 'invalid_value');
  return new AutoglmError(
    'invalid_parameter',
    `expected ${param === '' ? 'the body' : param} to be ${issue.message}, got ${found}`,
    {
      details: { param, where: 'body', found, allowed: issue.message },
    },
  );
}

/** The body as the schema's type, or an error that names the first field at fault. */
export function parseRequest<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw toError(parsed.error, body);
  return parsed.data;
}
