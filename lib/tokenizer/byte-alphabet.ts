/**
 * GPT-2's byte alphabet: a printable character for each byte, so that byte strings can be written as text.
 * Bytes 33..126, 161..172 and 174..255 stand for themselves, the other 68 are U+0100 onwards in order.
 */
const CHARACTER_OF_BYTE: readonly string[] = makeAlphabet();
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(
  CHARACTER_OF_BYTE.map((character, byte) => [character, byte]),
);

function makeAlphabet(): string[] {
  const alphabet: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte += 1) {
    const isItself =
      (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    alphabet.push(String.fromCharCode(isItself ? byte : next));
    if (!isItself) next += 1;
  }
  return alphabet;
}

export function alphabetCharacter(byte: number): string {
  return CHARACTER_OF_BYTE[byte] as string;
}

/** The bytes a piece of the byte alphabet stands for, or null when it has other characters. */
export function bytesOfAlphabet(piece: string): Uint8Array | null {
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i += 1) {
    const byte = BYTE_OF_CHARACTER.get(piece[i] as string);
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}
