import type { AutoglmError } from '../../errors';
import { invalidModelFile } from '../../model/model-file-error';

/** The largest published one, of multilingual models, has 316 kB. */
const MAX_CHARSMAP_BYTES = 16 << 20;
/** NFKC writes one character of Arabic in 33. */
const MAX_REPLACEMENT_BYTES = 128;

/** A replacement and how many bytes of the text it stands for. */
export interface Replacement {
  readonly text: string;
  readonly length: number;
}

/**
 * SentencePiece's precompiled normalization rules: the size of a trie, the trie, then replacement texts that end in NUL.
 * The trie is a double array (Darts-clone): an element holds its label, the place of its children, and whether it has a value.
 * Every place is checked when it is read; each step takes one byte of the text, so that no trie can make it run for ever.
 */
export class Charsmap {
  readonly #elements: Uint32Array;
  readonly #texts: Uint8Array;

  /** `where` names the blob in messages. */
  constructor(blob: Uint8Array, where: string) {
    const fault = (expected: string, found: string): AutoglmError =>
      invalidModelFile({ file: 'tokenizer', where, expected, found });
    if (blob.length > MAX_CHARSMAP_BYTES)
      throw fault(`at most ${MAX_CHARSMAP_BYTES} bytes`, `${blob.length}`);
    if (blob.length < 4) throw fault('the size of a trie', `${blob.length} bytes`);
    const view = new DataView(blob.buffer, blob.byteOffset, blob.length);
    const trieBytes = view.getUint32(0, true);
    if (trieBytes % 4 !== 0 || trieBytes === 0 || trieBytes > blob.length - 4) {
      throw fault(`a trie of 4..${blob.length - 4} bytes, in fours`, `${trieBytes} bytes`);
    }
    this.#elements = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#texts = blob.slice(4 + trieBytes);
    this.#checkValues(fault);
  }

  /** The longest rule that matches at `start`, or null. */
  longestAt(bytes: Uint8Array, start: number, end: number): Replacement | null {
    return this.#find(bytes, start, end, true);
  }

  /** The shortest rule that matches at `start`, or null. */
  shortestAt(bytes: Uint8Array, start: number, end: number): Replacement | null {
    return this.#find(bytes, start, end, false);
  }

  #find(bytes: Uint8Array, start: number, end: number, isLongest: boolean): Replacement | null {
    const elements = this.#elements;
    let place = childrenOf(elements[0] as number);
    let value = -1;
    let length = 0;
    for (let i = start; i < end; i += 1) {
      const byte = bytes[i] as number;
      place ^= byte;
      const element = elements[place];
      if (element === undefined || labelOf(element) !== byte) break;
      place ^= childrenOf(element);
      if (!hasValue(element)) continue;
      const leaf = elements[place];
      if (leaf === undefined) break;
      value = leaf & 0x7fffffff;
      length = i + 1 - start;
      if (!isLongest) break;
    }
    return value < 0 ? null : { text: this.#textAt(value), length };
  }

  #textAt(offset: number): string {
    return Buffer.from(this.#texts.subarray(offset, this.#texts.indexOf(0, offset))).toString('utf8');
  }

  #checkValues(fault: (expected: string, found: string) => AutoglmError): void {
    // An end within reach of every place, so that no replacement is longer.
    let end = -1;
    for (let at = 0; at < this.#texts.length; at = end + 1) {
      end = this.#texts.indexOf(0, at);
      if (end < 0) throw fault('replacements that end in NUL', 'no NUL');
      if (end - at > MAX_REPLACEMENT_BYTES) {
        throw fault(`replacements of at most ${MAX_REPLACEMENT_BYTES} bytes`, `one of ${end - at}`);
      }
    }
    // Leaves are the elements whose highest bit is set.
    for (const element of this.#elements) {
      const value = element & 0x7fffffff;
      if (element >>> 31 === 1 && value >= this.#texts.length) {
        throw fault(`replacements within ${this.#texts.length} bytes`, `one at ${value}`);
      }
    }
  }
}

const hasValue = (element: number): boolean => ((element >>> 8) & 1) === 1;
const labelOf = (element: number): number => (element & 0x800000ff) >>> 0;
const childrenOf = (element: number): number => (element >>> 10) << ((element & 0x200) >>> 6);
