import { writeAlphabetBytes } from './byte-alphabet';
import type { Spelling } from './spelling';
import type { AddedTokenJson } from './vocabulary/tokenizer-json';

/**
 * What each token id stands for, in three flat arrays that can be transferred between threads.
 * Token i is bytes[offsets[i] .. offsets[i + 1]). Ids that the vocabulary leaves out have no bytes.
 */
export interface TokenTable {
  readonly bytes: Uint8Array;
  /** [numTokens + 1], in bytes. */
  readonly offsets: Uint32Array;
  /** 1 for control tokens (end of text, role marks, ...), whose bytes are not part of what a model says. */
  readonly isSpecial: Uint8Array;
  /** Words are written with the space before them: a decoder drops so many at the start of a text. */
  readonly numLeadingSpaces: number;
  /** Words are written with the space after them: a decoder drops one at the end of a text. */
  readonly hasTrailingSpace: boolean;
}

/** The buffers to name in a transfer list. */
export function tokenTableBuffers(table: TokenTable): ArrayBuffer[] {
  return [table.bytes.buffer, table.offsets.buffer, table.isSpecial.buffer] as ArrayBuffer[];
}

export function makeTokenTable(
  vocab: ReadonlyMap<string, number>,
  added: readonly AddedTokenJson[],
  numTokens: number,
  spelling: Spelling,
): TokenTable {
  const pieces = new Array<string>(numTokens).fill('');
  const isAdded = new Uint8Array(numTokens);
  const isSpecial = new Uint8Array(numTokens);
  for (const [piece, id] of vocab) pieces[id] = piece;
  for (const { id, content, special } of added) {
    pieces[id] = content;
    isAdded[id] = 1;
    if (special === true) isSpecial[id] = 1;
  }
  // A UTF-16 unit is three bytes of UTF-8 at most, and a space may come with the piece.
  let room = 0;
  for (const piece of pieces) room += 3 * piece.length + 1;
  const bytes = new Uint8Array(room);
  const offsets = new Uint32Array(numTokens + 1);
  let end = 0;
  for (let id = 0; id < numTokens; id += 1) {
    end += writePiece(pieces[id] as string, isAdded[id] === 1, spelling, bytes, end);
    offsets[id + 1] = end;
  }
  const { numLeadingSpaces, hasTrailingSpace } = spelling;
  return { bytes: bytes.slice(0, end), offsets, isSpecial, numLeadingSpaces, hasTrailingSpace };
}

const encoder = new TextEncoder();

/** Returns the number of bytes written. */
function writePiece(
  piece: string,
  isAdded: boolean,
  spelling: Spelling,
  bytes: Uint8Array,
  offset: number,
): number {
  if (piece === '') return 0;
  if (!isAdded && spelling.isByteAlphabet && writeAlphabetBytes(piece, bytes, offset)) return piece.length;
  const byte = spelling.hasByteTokens && !isAdded ? /^<0x([0-9A-F]{2})>$/.exec(piece)?.[1] : undefined;
  if (byte !== undefined) {
    bytes[offset] = Number.parseInt(byte, 16);
    return 1;
  }
  return encoder.encodeInto(spelling.textOf(piece, isAdded), bytes.subarray(offset)).written;
}
