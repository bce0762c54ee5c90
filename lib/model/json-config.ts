import type { AutoglmError } from '../errors';
import type { JsonObject, JsonValue } from './checkpoint-types';
import type { ConfigReader } from './config-reader';
import { invalidModelFile, quoted } from './model-file-error';

const MAX_DEPTH = 64;

/** Parses the text of a JSON file whose top level must be an object. Nesting is bounded before anything is built. */
export function parseJsonObject(file: string, text: string): JsonObject {
  const value = parseJson(file, text);
  if (isObject(value)) return value;
  throw invalidModelFile({ file, where: 'top level', expected: 'an object', found: describe(value) });
}

/** The same for a file whose top level is a list. */
export function parseJsonList(file: string, text: string): readonly JsonValue[] {
  const value = parseJson(file, text);
  if (Array.isArray(value)) return value;
  throw invalidModelFile({ file, where: 'top level', expected: 'a list', found: describe(value) });
}

function parseJson(file: string, text: string): JsonValue {
  requireShallow(file, text);
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw invalidModelFile({
      file,
      where: 'text',
      expected: 'JSON',
      found: (error as SyntaxError).message,
      cause: error,
    });
  }
}

function requireShallow(file: string, text: string): void {
  let depth = 0;
  let isInString = false;
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i];
    if (char === '"') isInString = !isInString;
    else if (isInString) i += char === '\\' ? 1 : 0;
    else if (char === '{' || char === '[') depth += 1;
    else if (char === '}' || char === ']') depth -= 1;
    if (depth > MAX_DEPTH) {
      throw invalidModelFile({
        file,
        where: 'nesting',
        expected: `at most ${MAX_DEPTH} levels`,
        found: 'more',
        offset: i,
      });
    }
  }
}

/** Settings from a JSON object. Keys with dots reach into objects: `rope_parameters.factor`. null counts as absent. */
export class JsonConfig implements ConfigReader {
  readonly #object: JsonObject;

  constructor(
    readonly file: string,
    object: JsonObject,
  ) {
    this.#object = object;
  }

  has(key: string): boolean {
    return this.#get(key) !== null;
  }

  isStated(key: string): boolean {
    const parts = key.split('.');
    const last = parts.pop() as string;
    const object = parts.length === 0 ? this.#object : this.#get(parts.join('.'));
    return isObject(object) && Object.hasOwn(object, last);
  }

  isList(key: string): boolean {
    return Array.isArray(this.#get(key));
  }

  integer(key: string, min: number, max: number): number | null {
    const value = this.#get(key);
    if (value === null) return null;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    throw this.fault(key, `a whole number in ${min}..${max}`, describe(value));
  }

  number(key: string): number | null {
    const value = this.#get(key);
    if (value === null || (typeof value === 'number' && Number.isFinite(value))) return value;
    throw this.fault(key, 'a finite number', describe(value));
  }

  boolean(key: string): boolean | null {
    const value = this.#get(key);
    if (value === null || typeof value === 'boolean') return value;
    throw this.fault(key, 'true or false', describe(value));
  }

  string(key: string): string | null {
    const value = this.#get(key);
    if (value === null || typeof value === 'string') return value;
    throw this.fault(key, 'a string', describe(value));
  }

  numbers(key: string): readonly number[] | null {
    const value = this.#get(key);
    if (value === null) return null;
    if (Array.isArray(value) && value.every((item) => typeof item === 'number' && Number.isFinite(item))) {
      return value as number[];
    }
    throw this.fault(key, 'a list of numbers', describe(value));
  }

  strings(key: string): readonly string[] | null {
    const value = this.#get(key);
    if (value === null) return null;
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value as string[];
    throw this.fault(key, 'a list of strings', describe(value));
  }

  fault(key: string, expected: string, found: string): AutoglmError {
    return invalidModelFile({ file: this.file, where: `key ${quoted(key)}`, expected, found });
  }

  #get(key: string): JsonValue {
    let value: JsonValue = this.#object;
    for (const part of key.split('.')) {
      if (!isObject(value) || !Object.hasOwn(value, part)) return null;
      value = value[part] ?? null;
    }
    return value;
  }
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: JsonValue): string {
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return `the string ${quoted(value)}`;
  return Array.isArray(value) ? `a list of ${value.length}` : 'an object';
}
