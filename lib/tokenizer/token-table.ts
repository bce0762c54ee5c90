import { bytesOfAlphabet } from './byte-alphabet';
import type { AddedTokenJson } from './tokenizer-json';

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
  const pieces = new Array<Uint8Array | undefined>(numTokens);
  const isSpecial = new Uint8Array(numTokens);
  const encoder = new TextEncoder();
  for (const [piece, id] of vocab) {
    pieces[id] =
      spelling === 'byte-level'
        ? (bytesOfAlphabet(piece) ?? encoder.encode(piece))
        : bytesOfPiece(piece, encoder);
  }
  for (const { id, content, special } of added) {
    if (id >= numTokens) continue;
    pieces[id] = encoder.encode(content);
    if (special === true) isSpecial[id] = 1;
  }
  const offsets = new Uint32Array(numTokens + 1);
  for (let id = 0; id < numTokens; id += 1) {
    offsets[id + 1] = (offsets[id] as number) + (pieces[id]?.length ?? 0);
  }
  const bytes = new Uint8Array(offsets[numTokens] as number);
  for (const [id, piece] of pieces.entries()) {
    if (piece !== undefined) bytes.set(piece, offsets[id] as number);
  }
  return { bytes, offsets, isSpecial, hasLeadingSpace };
}

function bytesOfPiece(piece: string, encoder: InstanceType<typeof TextEncoder>): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(piece)?.[1];
  return byte === undefined
    ? encoder.encode(piece.replaceAll('\u2581', ' '))
    : Uint8Array.of(Number.parseInt(byte, 16));
}
