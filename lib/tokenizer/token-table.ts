import { writeAlphabetBytes } from './byte-alphabet';
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
  /**
   * SentencePiece vocabularies write "word" as " word" at the start of a text: a decoder drops one leading space there.
   */
  readonly hasLeadingSpace: boolean;
}

/** How the pieces of a vocabulary spell bytes: in GPT-2's byte alphabet, or as text with `▁` and `<0xHH>`. */
export type Spelling = 'byte-level' | 'sentencepiece';

/** The buffers to name in a transfer list. */
export function tokenTableBuffers(table: TokenTable): ArrayBuffer[] {
  return [table.bytes.buffer, table.offsets.buffer, table.isSpecial.buffer] as ArrayBuffer[];
}

export function makeTokenTable(
  vocab: ReadonlyMap<string, number>,
  added: readonly AddedTokenJson[],
  numTokens: number,
  spelling: Spelling,
  hasLeadingSpace: boolean,
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
  // A UTF-16 unit is three bytes of UTF-8 at most.
  const room = pieces.reduce((sum, piece) => sum + 3 * piece.length, 0);
  const bytes = new Uint8Array(room);
  const offsets = new Uint32Array(numTokens + 1);
  let end = 0;
  for (const [id, piece] of pieces.entries()) {
    end += writePiece(piece, isAdded[id] === 1 ? 'text' : spelling, bytes, end);
    offsets[id + 1] = end;
  }
  return { bytes: bytes.slice(0, end), offsets, isSpecial, hasLeadingSpace };
}

const encoder = new TextEncoder();

/** Returns the number of bytes written. */
function writePiece(piece: string, spelling: Spelling | 'text', bytes: Uint8Array, offset: number): number {
  if (spelling === 'byte-level' && writeAlphabetBytes(piece, bytes, offset)) return piece.length;
  if (spelling !== 'sentencepiece') return encoder.encodeInto(piece, bytes.subarray(offset)).written;
  const byte = /^<0x([0-9A-F]{2})>$/.exec(piece)?.[1];
  if (byte === undefined) {
    return encoder.encodeInto(piece.replaceAll('\u2581', ' '), bytes.subarray(offset)).written;
  }
  bytes[offset] = Number.parseInt(byte, 16);
  return 1;
}
