import type { AutoglmError } from '../../../errors';
import { invalidModelFile } from '../../../model/model-file-error';

export type FieldValue =
  | { readonly wire: 'varint'; readonly value: number }
  | { readonly wire: 'fixed64' }
  | { readonly wire: 'bytes'; readonly value: Uint8Array }
  | { readonly wire: 'fixed32'; readonly value: number };

export interface Field {
  readonly number: number;
  readonly value: FieldValue;
  /** Byte offset in the file. */
  readonly offset: number;
}

/**
 * The fields of a protobuf message, one after the other. Nothing is copied: bytes are views of the file, and every length
 * is checked against what is left of the message.
 */
export class MessageReader {
  readonly #file: string;
  readonly #bytes: Uint8Array;
  /** Offset of the message in the file. */
  readonly #base: number;
  readonly #view: DataView;
  #at = 0;

  constructor(file: string, bytes: Uint8Array, base = 0) {
    this.#file = file;
    this.#bytes = bytes;
    this.#base = base;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  fault(where: string, expected: string, found: string, offset = this.#base + this.#at): AutoglmError {
    return invalidModelFile({ file: this.#file, where, expected, found, offset });
  }

  *fields(): Generator<Field> {
    while (this.#at < this.#bytes.length) {
      const offset = this.#base + this.#at;
      const tag = this.#varint();
      const number = Math.floor(tag / 8);
      if (number === 0) throw this.fault('a field', 'a number of 1 or more', '0', offset);
      yield { number, value: this.#value(tag % 8), offset };
    }
  }

  /** The message in a field, whose own fields come next. */
  message(field: Field): MessageReader {
    const bytes = this.bytesOf(field);
    return new MessageReader(this.#file, bytes, this.#base + bytes.byteOffset - this.#bytes.byteOffset);
  }

  bytesOf({ number, value, offset }: Field): Uint8Array {
    if (value.wire === 'bytes') return value.value;
    throw this.fault(`field ${number}`, 'bytes', value.wire, offset);
  }

  textOf(field: Field): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.bytesOf(field));
    } catch (cause) {
      if (!(cause instanceof TypeError)) throw cause;
      throw this.fault(`field ${field.number}`, 'UTF-8', 'bytes that are not', field.offset);
    }
  }

  integerOf({ number, value, offset }: Field): number {
    if (value.wire === 'varint') return value.value;
    throw this.fault(`field ${number}`, 'an integer', value.wire, offset);
  }

  floatOf({ number, value, offset }: Field): number {
    if (value.wire === 'fixed32') return value.value;
    throw this.fault(`field ${number}`, 'a 32-bit float', value.wire, offset);
  }

  #value(wire: number): FieldValue {
    switch (wire) {
      case 0:
        return { wire: 'varint', value: this.#varint() };
      case 1:
        this.#skip(8);
        return { wire: 'fixed64' };
      case 2: {
        const length = this.#varint();
        const start = this.#at;
        this.#skip(length);
        return { wire: 'bytes', value: this.#bytes.subarray(start, start + length) };
      }
      case 5: {
        const start = this.#at;
        this.#skip(4);
        return { wire: 'fixed32', value: this.#view.getFloat32(start, true) };
      }
      default:
        throw this.fault('a field', 'wire type 0, 1, 2 or 5', `${wire}`);
    }
  }

  #skip(length: number): void {
    const left = this.#bytes.length - this.#at;
    if (length > left) throw this.fault('a field', `at most ${left} bytes, what is left`, `${length}`);
    this.#at += length;
  }

  /** Values of 2^53 and more are rounded: no field has such. */
  #varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw this.fault('a varint', 'more bytes', 'the end of the message');
      this.#at += 1;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw this.fault('a varint', 'at most 10 bytes', 'more');
  }
}
