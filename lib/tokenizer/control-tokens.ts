import type { TokenTable } from './token-table';

/** Control tokens by their spelling. */
export function controlTokens({ bytes, offsets, isSpecial }: TokenTable): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  const decoder = new TextDecoder();
  for (let id = isSpecial.indexOf(1); id >= 0; id = isSpecial.indexOf(1, id + 1)) {
    found.set(decoder.decode(bytes.subarray(offsets[id], offsets[id + 1])), id);
  }
  return found;
}
