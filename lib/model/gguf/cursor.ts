import type { ByteSource } from '../byte-source';
import { invalidModelFile } from '../model-file-error';

/** Small enough that what is parsed between two reads keeps the thread busy for a few milliseconds only. */
const WINDOW_BYTES = 256 << 10;

/**
 * Reads a header front to back through a window, so that a file of any size costs one window of memory.
 * `need` makes bytes available; the `take` methods then read them without waiting.
 * Invariant: nothing is allocated or read for a length that exceeds the bytes left.
 */
export class HeaderCursor {
  readonly #source: ByteSource;
  readonly #end: number;
  #window = new Uint8Array(0);
  #view = new DataView(new ArrayBuffer(0));
  /** File offset of the window's first byte, and the position inside the window. */
  #windowStart = 0;
  #position = 0;

  constructor(source: ByteSource, maxBytes: number) {
    this.#source = source;
    this.#end = Math.min(source.size, maxBytes);
  }

  /** Bytes from the start of the file. */
  get offset(): number {
    return this.#windowStart + this.#position;
  }

  /** Bytes left in the file, or in the header's budget if that is less. */
  get remaining(): number {
    return this.#end - this.offset;
  }

  /** Bytes that can be taken without waiting. */
  get buffered(): number {
    return this.#window.length - this.#position;
  }

  /** Makes `length` (at most one window) bytes available. `where` says what they are when the file ends before. */
  async need(length: number, where: string): Promise<void> {
    if (this.buffered >= length) return;
    this.requireRemaining(length, where);
    const start = this.offset;
    const window = new Uint8Array(Math.min(WINDOW_BYTES, this.#end - start));
    const kept = this.#window.subarray(this.#position);
    window.set(kept);
    await this.#source.readInto(window.subarray(kept.length), start + kept.length);
    this.#window = window;
    this.#view = new DataView(window.buffer);
    this.#windowStart = start;
    this.#position = 0;
  }

  requireRemaining(length: number, where: string): void {
    if (length <= this.remaining) return;
    const isCut = this.#end === this.#source.size;
    throw invalidModelFile({
      file: this.#source.path,
      where,
      offset: this.offset,
      expected: `${length} more bytes`,
      found: `${this.remaining} bytes to the end of ${isCut ? 'the file' : 'what a header may take'}`,
      ...(isCut ? { hint: 'The file is cut short or damaged; fetch it again.' } : {}),
    });
  }

  takeU8(): number {
    const value = this.#view.getUint8(this.#position);
    this.#position += 1;
    return value;
  }

  takeU32(): number {
    const value = this.#view.getUint32(this.#position, true);
    this.#position += 4;
    return value;
  }

  takeU64(): bigint {
    const value = this.#view.getBigUint64(this.#position, true);
    this.#position += 8;
    return value;
  }

  /** A u64 as a number: exact up to 2^53, and never below it for larger ones. */
  takeLength(): number {
    const low = this.takeU32();
    return low + this.takeU32() * 2 ** 32;
  }

  /**
   * Reads strings number `first` and on, as far as they lie whole in the window, have at most `maxBytes` and fit into
   * `target`; each is appended there and its end noted. Returns the number of the first string not read.
   * One plain loop: vocabularies have half a million strings of a few bytes, where any call per string would show.
   */
  takeStrings(target: Uint8Array, ends: Uint32Array, first: number, maxBytes: number): number {
    const window = this.#window;
    let position = this.#position;
    let end = first === 0 ? 0 : (ends[first - 1] as number);
    let index = first;
    for (; index < ends.length && position + 8 <= window.length; index += 1) {
      const size = this.#view.getUint32(position, true);
      const start = position + 8;
      const isLong = this.#view.getUint32(position + 4, true) !== 0 || size > maxBytes;
      if (isLong || size > window.length - start || size > target.length - end) break;
      for (let i = 0; i < size; i += 1) target[end + i] = window[start + i] as number;
      position = start + size;
      end += size;
      ends[index] = end;
    }
    this.#position = position;
    return index;
  }

  /** A view of the window: valid until the next `need`. */
  takeBuffered(length: number): Uint8Array {
    const bytes = this.#window.subarray(this.#position, this.#position + length);
    this.#position += length;
    return bytes;
  }

  /** Fills `target`, however long, past the window if need be. The caller has checked `requireRemaining`. */
  async takeInto(target: Uint8Array): Promise<void> {
    const buffered = Math.min(this.buffered, target.length);
    target.set(this.takeBuffered(buffered));
    if (buffered === target.length) return;
    const start = this.offset;
    await this.#source.readInto(target.subarray(buffered), start);
    this.#window = new Uint8Array(0);
    this.#windowStart = start + target.length - buffered;
    this.#position = 0;
  }
}
