import { AutoglmError } from '../errors';

/**
 * One value's rule. Written by hand because importing a schema library costs the host's main thread some 100 ms of
 * processor time (docs/decisions/0005-options-are-checked-by-hand.md).
 */
export interface Check<T> {
  /** Completes "expected X to be ...". */
  readonly allowed: string;
  readonly accepts: (value: unknown) => value is T;
}

type Shape = Readonly<Record<string, Check<unknown>>>;
type Checked<S extends Shape> = { readonly [K in keyof S]?: S[K] extends Check<infer T> ? T : never };

export const integer = (min: number, max: number): Check<number> => ({
  allowed: `an integer in ${min}..${max}`,
  accepts: (value): value is number =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max,
});

/** Both ends included, unless `above` says that the value must be greater than `min`. */
export const numberIn = (min: number, max: number, { above = false } = {}): Check<number> => ({
  allowed: `a number in ${above ? '(' : '['}${min}, ${max}]`,
  accepts: (value): value is number =>
    typeof value === 'number' && (above ? value > min : value >= min) && value <= max,
});

export const boolean: Check<boolean> = {
  allowed: 'true or false',
  accepts: (value): value is boolean => typeof value === 'boolean',
};

export const oneOf = <T extends string>(...values: readonly T[]): Check<T> => ({
  allowed: `one of ${values.map((value) => `'${value}'`).join(', ')}`,
  accepts: (value): value is T => (values as readonly unknown[]).includes(value),
});

/** Text that has a UTF-8 form: half of a surrogate pair has none. */
export const text = (min: number, max: number): Check<string> => ({
  allowed: `a well-formed string of ${min === 0 ? 'at most' : `${min}..`}${min === 0 ? ` ${max}` : max} characters`,
  accepts: (value): value is string =>
    typeof value === 'string' && value.length >= min && value.length <= max && isWellFormed(value),
});

// biome-ignore lint/complexity/noBannedTypes: any function is allowed; what it takes is its type's business
export const callback: Check<Function> = {
  allowed: 'a function',
  // biome-ignore lint/complexity/noBannedTypes: as above
  accepts: (value): value is Function => typeof value === 'function',
};

export const abortSignal: Check<AbortSignal> = {
  allowed: 'an AbortSignal',
  accepts: (value): value is AbortSignal =>
    typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value,
};

export const plainObject: Check<Readonly<Record<string, unknown>>> = {
  allowed: 'an object',
  accepts: (value): value is Readonly<Record<string, unknown>> =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value),
};

export const anything: Check<unknown> = {
  allowed: 'any value',
  accepts: (value): value is unknown => value !== undefined,
};

export const isWellFormed = (value: string): boolean => !/\p{Surrogate}/u.test(value);

/**
 * Checks an options object: known keys only, each value by its rule; an `undefined` value counts as absent. Throws
 * `invalid_parameter` with `details` {path, found, allowed}.
 */
export function parseObject<S extends Shape>(path: string, value: unknown, shape: S): Checked<S> {
  if (!plainObject.accepts(value)) throw invalidParameter(path, plainObject.allowed, value);
  const checked: Record<string, unknown> = {};
  for (const [key, found] of Object.entries(value)) {
    const at = path === 'options' ? key : `${path}.${key}`;
    const check = Object.hasOwn(shape, key) ? shape[key] : undefined;
    if (check === undefined) {
      const known = Object.keys(shape).join(', ');
      throw new AutoglmError('invalid_parameter', `${at} is not a known option; known are ${known}`, {
        details: { path: at, allowed: known },
      });
    }
    if (found === undefined) continue;
    if (!check.accepts(found)) throw invalidParameter(at, check.allowed, found);
    checked[key] = found;
  }
  return checked as Checked<S>;
}

export function invalidParameter(path: string, allowed: string, found: unknown): AutoglmError {
  return new AutoglmError('invalid_parameter', `expected ${path} to be ${allowed}, got ${describe(found)}`, {
    details: { path, found: describe(found), allowed },
  });
}

/** Numbers and flags as they are; of text only its length, because errors are logged and prompts must not be. */
function describe(value: unknown): string {
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  if (typeof value === 'string') {
    if (value.length <= 20 && isWellFormed(value)) return `'${value}'`;
    return `a ${isWellFormed(value) ? '' : 'malformed '}string of ${value.length} characters`;
  }
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}
