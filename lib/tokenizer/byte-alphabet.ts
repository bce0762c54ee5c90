/**
 * GPT-2's byte alphabet: a printable character for each byte, so that byte strings can be written as text.
 * Bytes 33..126, 161..172 and 174..255 stand for themselves, the other 68 are U+0100 onwards in order.
 */
const CHARACTER_OF_BYTE: readonly string[] = makeAlphabet();

const NO_BYTE = 0xffff;
/** By character code; the alphabet ends before U+0144. */
const BYTE_OF_CODE = new Uint16Array(0x144).fill(NO_BYTE);
for (const [byte, character] of CHARACTER_OF_BYTE.entries()) BYTE_OF_CODE[character.charCodeAt(0)] = byte;

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

/** Writes the bytes that a piece of the byte alphabet stands for; false when it has other characters. */
export function writeAlphabetBytes(piece: string, target: Uint8Array, offset: number): boolean {
  for (let i = 0; i < piece.length; i += 1) {
    const byte = BYTE_OF_CODE[piece.charCodeAt(i)] ?? NO_BYTE;
    if (byte === NO_BYTE) return false;
    target[offset + i] = byte;
  }
  return true;
}
