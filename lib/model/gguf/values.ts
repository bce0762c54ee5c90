import { isUtf8 } from 'node:buffer';
import { invalidModelFile, quoted } from '../model-file-error';
import { findInvalidString, type StringTable } from '../string-table';
import type { HeaderCursor } from './cursor';
import type { GgufLimits } from './limits';
import type { GgufNumbers, GgufNumberType, GgufValue } from './metadata';

interface NumberType {
  readonly name: GgufNumberType;
  readonly bytes: number;
  readonly view: (buffer: ArrayBuffer) => GgufNumbers;
}

/** Number types of values by the number stored in the file; 7 is bool, 8 string, 9 array. */
const NUMBER_TYPES: ReadonlyMap<number, NumberType> = new Map<number, NumberType>([
  [0, { name: 'u8', bytes: 1, view: (buffer) => new Uint8Array(buffer) }],
  [1, { name: 'i8', bytes: 1, view: (buffer) => new Int8Array(buffer) }],
  [2, { name: 'u16', bytes: 2, view: (buffer) => new Uint16Array(buffer) }],
  [3, { name: 'i16', bytes: 2, view: (buffer) => new Int16Array(buffer) }],
  [4, { name: 'u32', bytes: 4, view: (buffer) => new Uint32Array(buffer) }],
  [5, { name: 'i32', bytes: 4, view: (buffer) => new Int32Array(buffer) }],
  [6, { name: 'f32', bytes: 4, view: (buffer) => new Float32Array(buffer) }],
  [10, { name: 'u64', bytes: 8, view: (buffer) => new BigUint64Array(buffer) }],
  [11, { name: 'i64', bytes: 8, view: (buffer) => new BigInt64Array(buffer) }],
  [12, { name: 'f64', bytes: 8, view: (buffer) => new Float64Array(buffer) }],
]);
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

/** Reads the values of one file's header; every length is checked against the limits and the bytes left. */
export class ValueReader {
  constructor(
    readonly file: string,
    readonly cursor: HeaderCursor,
    readonly limits: GgufLimits,
  ) {}

  /** A u64 count or length in 0..max. */
  async count(max: number, where: string): Promise<number> {
    await this.cursor.need(8, where);
    const offset = this.cursor.offset;
    const value = this.cursor.takeU64();
    if (value > BigInt(max)) {
      throw invalidModelFile({
        file: this.file,
        where,
        offset,
        expected: `at most ${max}`,
        found: String(value),
      });
    }
    return Number(value);
  }

  async bytes(maxLength: number, where: string): Promise<Uint8Array> {
    const length = await this.count(maxLength, `length of ${where}`);
    this.cursor.requireRemaining(length, where);
    const bytes = new Uint8Array(length);
    await this.cursor.takeInto(bytes);
    return bytes;
  }

  /** Reads the type word and the value behind it. */
  async value(key: string): Promise<GgufValue> {
    const where = `key ${quoted(key)}`;
    await this.cursor.need(4, `type of ${where}`);
    const offset = this.cursor.offset;
    const typeId = this.cursor.takeU32();
    if (typeId === BOOL) return { kind: 'boolean', value: await this.#boolean(where), offset };
    if (typeId === STRING) return { kind: 'string', bytes: await this.#string(where), offset };
    if (typeId === ARRAY) return this.#array(where, offset);
    const type = NUMBER_TYPES.get(typeId);
    if (type === undefined) throw this.#unknownType(`type of ${where}`, offset, typeId, 12);
    const [value] = await this.#numbers(type, 1, where);
    return { kind: 'number', type: type.name, value: value as number | bigint, offset };
  }

  async #array(where: string, offset: number): Promise<GgufValue> {
    await this.cursor.need(4, `element type of ${where}`);
    const typeOffset = this.cursor.offset;
    const typeId = this.cursor.takeU32();
    const length = await this.count(this.limits.maxArrayLength, `array length of ${where}`);
    if (typeId === STRING) return { kind: 'strings', table: await this.#strings(length, where), offset };
    if (typeId === BOOL) return { kind: 'booleans', values: await this.#booleans(length, where), offset };
    if (typeId === ARRAY) {
      throw invalidModelFile({
        file: this.file,
        where: `element type of ${where}`,
        offset: typeOffset,
        expected: 'numbers, bools or strings',
        found: 'nested arrays',
      });
    }
    const type = NUMBER_TYPES.get(typeId);
    if (type === undefined) throw this.#unknownType(`element type of ${where}`, typeOffset, typeId, 12);
    return { kind: 'numbers', type: type.name, values: await this.#numbers(type, length, where), offset };
  }

  async #numbers(type: NumberType, length: number, where: string): Promise<GgufNumbers> {
    this.cursor.requireRemaining(length * type.bytes, where);
    const bytes = new Uint8Array(length * type.bytes);
    await this.cursor.takeInto(bytes);
    return type.view(bytes.buffer);
  }

  async #boolean(where: string): Promise<boolean> {
    const [value] = await this.#booleans(1, where);
    return value === 1;
  }

  async #booleans(length: number, where: string): Promise<Uint8Array> {
    this.cursor.requireRemaining(length, where);
    const offset = this.cursor.offset;
    const values = new Uint8Array(length);
    await this.cursor.takeInto(values);
    const wrong = values.findIndex((value) => value > 1);
    if (wrong >= 0) {
      throw invalidModelFile({
        file: this.file,
        where,
        offset: offset + wrong,
        expected: 'a bool byte of 0 or 1',
        found: String(values[wrong]),
      });
    }
    return values;
  }

  async #string(where: string): Promise<Uint8Array> {
    const offset = this.cursor.offset;
    const bytes = await this.bytes(this.limits.maxStringBytes, where);
    if (!isUtf8(bytes)) throw this.#notUtf8(where, offset);
    return bytes;
  }

  /** Copies the strings together without their length words. The array cannot be longer than the bytes left. */
  async #strings(length: number, where: string): Promise<StringTable> {
    this.cursor.requireRemaining(length * 8, where);
    const offset = this.cursor.offset;
    const ends = new Uint32Array(length);
    let bytes = new Uint8Array(Math.min(this.cursor.remaining - length * 8, Math.max(length * 16, 64)));
    for (let i = 0; i < length; i += 1) {
      i = this.cursor.takeStrings(bytes, ends, i, this.limits.maxStringBytes);
      if (i === length) break;
      // This one crosses the window's end, outgrows `bytes`, or is too long.
      if (this.cursor.buffered < 8) await this.cursor.need(8, where);
      const end = i === 0 ? 0 : (ends[i - 1] as number);
      const size = this.#stringSize(i, where);
      if (end + size > bytes.length) bytes = grown(bytes, end + size);
      await this.cursor.takeInto(bytes.subarray(end, end + size));
      ends[i] = end + size;
    }
    const table = { bytes: bytes.slice(0, ends.at(-1) ?? 0), ends };
    const wrong = findInvalidString(table);
    if (wrong >= 0) throw this.#notUtf8(`${where}, string ${wrong}`, offset);
    return table;
  }

  #stringSize(index: number, where: string): number {
    const size = this.cursor.takeLength();
    if (size <= this.limits.maxStringBytes && size <= this.cursor.remaining) return size;
    const isTooLong = size > this.limits.maxStringBytes;
    throw invalidModelFile({
      file: this.file,
      where: `${where}, string ${index}`,
      offset: this.cursor.offset - 8,
      expected: isTooLong ? `at most ${this.limits.maxStringBytes} bytes` : `${size} more bytes`,
      found: isTooLong ? `${size} bytes` : `${this.cursor.remaining} bytes`,
    });
  }

  #unknownType(where: string, offset: number, typeId: number, max: number) {
    return invalidModelFile({
      file: this.file,
      where,
      offset,
      expected: `a value type in 0..${max}`,
      found: String(typeId),
    });
  }

  #notUtf8(where: string, offset: number) {
    return invalidModelFile({
      file: this.file,
      where,
      offset,
      expected: 'UTF-8 text',
      found: 'bytes that are not',
    });
  }
}

function grown(bytes: Uint8Array<ArrayBuffer>, minimum: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(Math.max(minimum, bytes.length * 2));
  larger.set(bytes);
  return larger;
}
