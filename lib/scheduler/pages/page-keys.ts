import { hash } from 'node:crypto';
import { Limits } from '../../native/abi';

/** Names the content of one full page and of every page before it: a SHA-256 digest, one character per byte. */
export type PageKey = string & { readonly brand: 'PageKey' };

const DIGEST_BYTES = 32;
/** Input of one link of the chain: the parent's digest, then the page's token ids. Written and read in one call. */
const link = Buffer.alloc(DIGEST_BYTES + Limits.pageSize * Int32Array.BYTES_PER_ELEMENT);
const linkTokens = new Int32Array(link.buffer, link.byteOffset + DIGEST_BYTES, Limits.pageSize);

/** Parent of a sequence's first page: chains with different salts never meet. */
export function rootKey(salt: string): PageKey {
  return hash('sha256', salt, 'binary') as PageKey;
}

/** Key of the page that holds `tokens[start .. start + 15]` after the pages named by `parent`. */
export function chainKey(parent: PageKey, tokens: Int32Array, start: number): PageKey {
  link.write(parent, 'latin1');
  for (let i = 0; i < Limits.pageSize; i += 1) linkTokens[i] = tokens[start + i] as number;
  return hash('sha256', link, 'binary') as PageKey;
}
