const encoder = new TextEncoder();

/** The ids of `<0x00>` to `<0xFF>`; null unless the vocabulary has all of them. */
export function byteTokens(vocab: ReadonlyMap<string, number>): Int32Array | null {
  const ids = new Int32Array(256);
  for (let byte = 0; byte < 256; byte += 1) {
    const id = vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
    if (id === undefined) return null;
    ids[byte] = id;
  }
  return ids;
}

/** Appends the tokens of the bytes of a text. */
export function pushBytes(text: string, tokens: Int32Array, ids: number[]): void {
  for (const byte of encoder.encode(text)) ids.push(tokens[byte] as number);
}
