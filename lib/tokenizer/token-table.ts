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

/** The buffers to name in a transfer list. */
export function tokenTableBuffers(table: TokenTable): ArrayBuffer[] {
  return [table.bytes.buffer, table.offsets.buffer, table.isSpecial.buffer] as ArrayBuffer[];
}

export function numTokensOf(table: TokenTable): number {
  return table.isSpecial.length;
}
