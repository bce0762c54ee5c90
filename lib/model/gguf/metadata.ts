import type { AutoglmError } from '../../errors';
import type { ConfigReader } from '../config-reader';
import { invalidModelFile, quoted } from '../model-file-error';
import { decodeStrings, type StringTable } from '../string-table';

export type GgufNumberType = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'u64' | 'i64' | 'f64';

export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array;

export type GgufValue = (
  | { readonly kind: 'number'; readonly type: GgufNumberType; readonly value: number | bigint }
  | { readonly kind: 'boolean'; readonly value: boolean }
  /** UTF-8, checked; decoded when asked for. */
  | { readonly kind: 'string'; readonly bytes: Uint8Array }
  | { readonly kind: 'strings'; readonly table: StringTable }
  | { readonly kind: 'numbers'; readonly type: GgufNumberType; readonly values: GgufNumbers }
  | { readonly kind: 'booleans'; readonly values: Uint8Array }
) & {
  /** Where the value starts in the file. */
  readonly offset: number;
};

/** The key-value part of a GGUF file. */
export class GgufMetadata implements ConfigReader {
  readonly #values: ReadonlyMap<string, GgufValue>;

  constructor(
    readonly file: string,
    values: ReadonlyMap<string, GgufValue>,
  ) {
    this.#values = values;
  }

  /** Every key with its value as read, in the file's order. */
  entries(): Iterable<readonly [string, GgufValue]> {
    return this.#values.entries();
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  integer(key: string, min: number, max: number): number | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    const expected = `a whole number in ${min}..${max}`;
    if (value.kind !== 'number') throw this.fault(key, expected, describe(value));
    if (value.value < min || value.value > max || !isWhole(value.value)) {
      throw this.fault(key, expected, describe(value));
    }
    return Number(value.value);
  }

  number(key: string): number | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (value.kind !== 'number' || !Number.isFinite(Number(value.value))) {
      throw this.fault(key, 'a finite number', describe(value));
    }
    return Number(value.value);
  }

  boolean(key: string): boolean | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (value.kind !== 'boolean') throw this.fault(key, 'a bool', describe(value));
    return value.value;
  }

  string(key: string): string | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (value.kind !== 'string') throw this.fault(key, 'a string', describe(value));
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(value.bytes);
  }

  numbers(key: string): readonly number[] | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (value.kind !== 'numbers') throw this.fault(key, 'an array of numbers', describe(value));
    const numbers = Array.from(value.values, Number);
    const wrong = numbers.findIndex((number) => !Number.isFinite(number));
    if (wrong >= 0) throw this.fault(key, 'finite numbers', `${numbers[wrong]} at index ${wrong}`);
    return numbers;
  }

  /** The array as it is in the file, of one of `types`. */
  typedNumbers(key: string, types: readonly GgufNumberType[]): GgufNumbers | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (value.kind !== 'numbers' || !types.includes(value.type)) {
      throw this.fault(key, `an array of ${types.join(' or ')}`, describe(value));
    }
    return value.values;
  }

  strings(key: string): readonly string[] | null {
    const table = this.stringTable(key);
    return table === null ? null : decodeStrings(table);
  }

  stringTable(key: string): StringTable | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (value.kind !== 'strings') throw this.fault(key, 'an array of strings', describe(value));
    return value.table;
  }

  isStated(key: string): boolean {
    return this.#values.has(key);
  }

  isList(key: string): boolean {
    const kind = this.#values.get(key)?.kind;
    return kind === 'numbers' || kind === 'strings' || kind === 'booleans';
  }

  fault(key: string, expected: string, found: string): AutoglmError {
    const offset = this.#values.get(key)?.offset;
    return invalidModelFile({
      file: this.file,
      where: `key ${quoted(key)}`,
      expected,
      found,
      ...(offset === undefined ? {} : { offset }),
    });
  }
}

function isWhole(value: number | bigint): boolean {
  return typeof value === 'bigint' || Number.isInteger(value);
}

function describe(value: GgufValue): string {
  switch (value.kind) {
    case 'number':
      return `${value.type} ${value.value}`;
    case 'boolean':
      return `bool ${value.value}`;
    case 'string':
      return `the string ${quoted(new TextDecoder().decode(value.bytes.subarray(0, 256)))}`;
    case 'strings':
      return `an array of ${value.table.ends.length} strings`;
    case 'numbers':
      return `an array of ${value.values.length} ${value.type}`;
    case 'booleans':
      return `an array of ${value.values.length} bools`;
  }
}
