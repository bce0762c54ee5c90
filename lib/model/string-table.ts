import { isUtf8 } from 'node:buffer';

/**
 * Many strings in two flat arrays: plain data that can be posted or transferred to a worker. String i is the UTF-8 text
 * of bytes[ends[i - 1] .. ends[i]); all of it was checked to be valid UTF-8. `decodeStrings` turns it into an array.
 */
export interface StringTable {
  readonly bytes: Uint8Array;
  readonly ends: Uint32Array;
}

/**
 * All strings of a table, in order.
 * The whole text is decoded in one go and then cut: a decode per string takes twice as long.
 */
export function decodeStrings({ bytes, ends }: StringTable): string[] {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  const strings = new Array<string>(ends.length);
  let byte = 0;
  let unit = 0;
  for (let i = 0; i < ends.length; i += 1) {
    const end = ends[i] as number;
    const start = unit;
    for (; byte < end; byte += 1) {
      const value = bytes[byte] as number;
      // UTF-16 units: one per character, two for those of four bytes, none for continuation bytes.
      if ((value & 0xc0) !== 0x80) unit += value >= 0xf0 ? 2 : 1;
    }
    strings[i] = text.slice(start, unit);
  }
  return strings;
}

/** Index of the first string that is not valid UTF-8, or -1. */
export function findInvalidString({ bytes, ends }: StringTable): number {
  if (isUtf8(bytes) && !hasSplitCharacter(bytes, ends)) return -1;
  let start = 0;
  for (let i = 0; i < ends.length; i += 1) {
    const end = ends[i] as number;
    if (!isUtf8(bytes.subarray(start, end))) return i;
    start = end;
  }
  return -1;
}

/** In text that is valid as a whole, a string is invalid only if a character runs across its border. */
function hasSplitCharacter(bytes: Uint8Array, ends: Uint32Array): boolean {
  for (const end of ends) {
    if (end < bytes.length && ((bytes[end] as number) & 0xc0) === 0x80) return true;
  }
  return false;
}
