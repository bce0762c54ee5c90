/**
 * What two neighbouring symbols become when they are joined, and how early: a hash table in one flat array, since a Map of
 * 300,000 merges takes ten times the memory and longer to ask.
 */
export class PairTable {
  /** Left, right, rank and result of each entry; the rank is -1 where a place is free. */
  readonly #entries: Int32Array;
  readonly #mask: number;

  constructor(numPairs: number) {
    let size = 16;
    while (size < 2 * numPairs) size *= 2;
    this.#entries = new Int32Array(4 * size).fill(-1);
    this.#mask = size - 1;
  }

  /** The later of two equal pairs counts. */
  set(left: number, right: number, rank: number, result: number): void {
    const at = this.#find(left, right);
    this.#entries[at] = left;
    this.#entries[at + 1] = right;
    this.#entries[at + 2] = rank;
    this.#entries[at + 3] = result;
  }

  /** Place of a pair for `rankAt` and `resultAt`, or -1. */
  place(left: number, right: number): number {
    const at = this.#find(left, right);
    return this.#entries[at + 2] === -1 ? -1 : at;
  }

  rankAt(place: number): number {
    return this.#entries[place + 2] as number;
  }

  resultAt(place: number): number {
    return this.#entries[place + 3] as number;
  }

  #find(left: number, right: number): number {
    const entries = this.#entries;
    let slot = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & this.#mask;
    for (;;) {
      const at = 4 * slot;
      if (entries[at + 2] === -1 || (entries[at] === left && entries[at + 1] === right)) return at;
      slot = (slot + 1) & this.#mask;
    }
  }
}
