import { AutoglmError } from '../errors';
import type { TokenTable } from './token-table';

export interface StreamDecoderOptions {
  /** Leaves control tokens out. Default true. */
  readonly skipSpecialTokens?: boolean;
  /** Control tokens that are not left out. */
  readonly shownTokens?: ReadonlySet<number>;
  /** The tokens go on from a text before them, so that a leading space of SentencePiece vocabularies is kept. Default false. */
  readonly continuesText?: boolean;
}

const NONE: ReadonlySet<number> = new Set();

/**
 * Turns token ids into text as they come. Never emits part of a character: the bytes of one that is not complete wait for
 * the next tokens. Bytes that can be no part of UTF-8 become U+FFFD, one per maximal ill-formed subsequence (the WHATWG
 * rule, as Python's and Rust's decoders have it), wherever the stream is cut.
 */
export class StreamDecoder {
  readonly #table: TokenTable;
  readonly #skipsSpecial: boolean;
  readonly #shown: ReadonlySet<number>;
  #numDroppedSpaces: number;
  /** The first bytes of a character, at most 3. */
  #pending: Uint8Array = new Uint8Array(0);
  /** A space that is text only if more text comes. */
  #heldSpace = '';

  constructor(
    table: TokenTable,
    { skipSpecialTokens = true, shownTokens = NONE, continuesText = false }: StreamDecoderOptions = {},
  ) {
    this.#table = table;
    this.#skipsSpecial = skipSpecialTokens;
    this.#shown = shownTokens;
    this.#numDroppedSpaces = continuesText ? 0 : table.numLeadingSpaces;
  }

  push(tokenIds: ArrayLike<number>): string {
    const bytes = this.#bytesOf(tokenIds);
    const end = bytes.length - incompleteTail(bytes);
    this.#pending = bytes.slice(end);
    return this.#text(bytes.subarray(0, end));
  }

  /** What is left: a character that never became complete is U+FFFD. */
  end(): string {
    const bytes = this.#pending;
    this.#pending = new Uint8Array(0);
    const text = this.#text(bytes);
    this.#heldSpace = '';
    return text;
  }

  /** The pending bytes and those of the tokens. */
  #bytesOf(tokenIds: ArrayLike<number>): Uint8Array {
    const { bytes, offsets, isSpecial } = this.#table;
    let size = this.#pending.length;
    for (let i = 0; i < tokenIds.length; i += 1) {
      const id = tokenIds[i] as number;
      if (!Number.isInteger(id) || id < 0 || id >= isSpecial.length) {
        throw new AutoglmError(
          'invalid_parameter',
          `expected token ids in 0..${isSpecial.length - 1}, got ${id}`,
        );
      }
      if (!this.#isSkipped(id)) size += (offsets[id + 1] as number) - (offsets[id] as number);
    }
    const all = new Uint8Array(size);
    all.set(this.#pending);
    let end = this.#pending.length;
    for (let i = 0; i < tokenIds.length; i += 1) {
      const id = tokenIds[i] as number;
      if (this.#isSkipped(id)) continue;
      // Tokens have few bytes: a view of each would cost more than copying them here.
      for (let k = offsets[id] as number; k < (offsets[id + 1] as number); k += 1) {
        all[end] = bytes[k] as number;
        end += 1;
      }
    }
    return all;
  }

  #isSkipped(id: number): boolean {
    return this.#skipsSpecial && this.#table.isSpecial[id] === 1 && !this.#shown.has(id);
  }

  #text(bytes: Uint8Array): string {
    let text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
    for (; text.startsWith(' ') && this.#numDroppedSpaces > 0; this.#numDroppedSpaces -= 1)
      text = text.slice(1);
    if (text === '') return '';
    this.#numDroppedSpaces = 0;
    if (!this.#table.hasTrailingSpace) return text;
    const all = this.#heldSpace + text;
    this.#heldSpace = all.endsWith(' ') ? ' ' : '';
    return this.#heldSpace === '' ? all : all.slice(0, -1);
  }
}

/** The text of a whole sequence. */
export function decodeTokens(
  table: TokenTable,
  tokenIds: ArrayLike<number>,
  options?: StreamDecoderOptions,
): string {
  const decoder = new StreamDecoder(table, options);
  return decoder.push(tokenIds) + decoder.end();
}

/**
 * How many bytes at the end could be the start of a longer character. Holding back bytes that turn out to be ill-formed
 * does no harm, since no maximal subsequence reaches across a lead byte.
 */
function incompleteTail(bytes: Uint8Array): number {
  const first = Math.max(0, bytes.length - 3);
  for (let i = bytes.length - 1; i >= first; i -= 1) {
    const byte = bytes[i] as number;
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    const available = bytes.length - i;
    return available < length ? available : 0;
  }
  return 0;
}
