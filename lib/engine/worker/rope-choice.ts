import type { RequestMessage } from './protocol';

/**
 * Which of a model's rope tables a request rotates by, in all its steps: 1 for requests that may grow longer than
 * `switchLength`. Deciding by the length reached so far would make every key cached before the switch wrong.
 */
export function ropeTableOf({ tokens, settings }: RequestMessage, switchLength: number | null): number {
  return switchLength !== null && tokens.length + settings.maxTokens > switchLength ? 1 : 0;
}

/**
 * Keys rotated by different tables are different keys, and so are those of different adapters: requests share cached
 * prefixes within one of each only.
 */
export const prefixSalt = (
  { salt, adapter }: Pick<RequestMessage, 'salt' | 'adapter'>,
  ropeTable: number,
): string => `${ropeTable}:${adapter}:${salt}`;
