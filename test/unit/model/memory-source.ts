import type { ByteSource } from '../../../lib/model/byte-source';

/** Bytes in memory. Records the largest single read, which bounds what a parser allocates. */
export class MemorySource implements ByteSource {
  readonly path = 'model';
  largestRead = 0;

  constructor(readonly bytes: Uint8Array) {}

  get size(): number {
    return this.bytes.length;
  }

  async readInto(target: Uint8Array, offset: number): Promise<void> {
    if (offset + target.length > this.bytes.length) throw new Error('read past the end');
    this.largestRead = Math.max(this.largestRead, target.length);
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
}

/** The rejection of `promise`; fails when it resolves. */
export async function rejectionOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('expected a rejection, got a result');
}

/** Small generator for repeatable tests. Source: Steele and others, "Fast splittable pseudorandom number generators". */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}
