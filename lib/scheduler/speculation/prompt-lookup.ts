import type { Draft, Drafter } from '../types';

/** Tokens at the end of a sequence that must occur earlier before anything is guessed from it. */
const MIN_MATCH = 2;
/** Longer matches guess no better. */
const MAX_MATCH = 16;
/** Earlier places looked at, the latest first. */
const MAX_CANDIDATES = 16;
const MIN_CAPACITY = 256;
const NONE = -1;

/**
 * Guesses that a sequence goes on as it did after the longest earlier occurrence of its last tokens. Earlier places are
 * found through chains of equal pairs, as deflate finds them. One per request.
 * Sources: "Prompt Lookup Decoding", A. Saxena, 2023; RFC 1951, section 4.
 */
export class PromptLookup implements Drafter {
  /** By the hash of a pair, where it last ended; `#previous` leads on to the places before that. */
  #heads = new Int32Array(MIN_CAPACITY).fill(NONE);
  #previous = new Int32Array(MIN_CAPACITY);
  /** Pairs that end before this index can be found. */
  #numIndexed = 1;
  #matchedAt = NONE;
  #match = NONE;
  #matchLength = 0;

  draft(tokens: Int32Array, numTokens: number, maxTokens: number): Draft | null {
    this.#find(tokens, numTokens);
    if (this.#match === NONE || maxTokens < 1) return null;
    const first = this.#match + 1;
    // What would be copied from past the end is what has just been guessed.
    const period = numTokens - first;
    const guess = new Int32Array(maxTokens);
    for (let i = 0; i < maxTokens; i += 1) guess[i] = tokens[first + (i % period)] as number;
    return { tokens: guess, grade: gradeOf(this.#matchLength) };
  }

  /** Sets `#match` to the index at which the best earlier occurrence ends. */
  #find(tokens: Int32Array, numTokens: number): void {
    if (this.#matchedAt === numTokens) return;
    this.#matchedAt = numTokens;
    this.#match = NONE;
    this.#matchLength = MIN_MATCH - 1;
    if (numTokens < MIN_MATCH + 1) return;
    this.#index(tokens, numTokens - 1);
    const last = numTokens - 1;
    let place = this.#heads[this.#slotOf(tokens, last)] as number;
    for (let i = 0; place !== NONE && i < MAX_CANDIDATES; i += 1) {
      const length = commonLength(tokens, place, last);
      if (length > this.#matchLength) {
        this.#match = place;
        this.#matchLength = length;
        if (length >= MAX_MATCH) return;
      }
      place = this.#previous[place] as number;
    }
  }

  /** Makes the pairs findable that end before `end`. */
  #index(tokens: Int32Array, end: number): void {
    if (end > this.#previous.length) {
      const capacity = 2 ** Math.ceil(Math.log2(end + 1));
      this.#heads = new Int32Array(capacity).fill(NONE);
      this.#previous = new Int32Array(capacity);
      this.#numIndexed = 1;
    }
    for (; this.#numIndexed < end; this.#numIndexed += 1) {
      const slot = this.#slotOf(tokens, this.#numIndexed);
      this.#previous[this.#numIndexed] = this.#heads[slot] as number;
      this.#heads[slot] = this.#numIndexed;
    }
  }

  #slotOf(tokens: Int32Array, last: number): number {
    const mixed =
      Math.imul(tokens[last - 1] as number, 0x9e3779b1) ^ Math.imul(tokens[last] as number, 0x85ebca6b);
    return (mixed ^ (mixed >>> 15)) & (this.#heads.length - 1);
  }
}

/** Tokens that are equal before and at the two indices, at most MAX_MATCH. */
function commonLength(tokens: Int32Array, earlier: number, later: number): number {
  let length = 0;
  while (length < MAX_MATCH && length <= earlier && tokens[earlier - length] === tokens[later - length])
    length += 1;
  return length;
}

/** Long matches are right far more often than short ones: each kind has a record of its own. */
function gradeOf(matchLength: number): number {
  if (matchLength < 3) return 0;
  if (matchLength < 5) return 1;
  return matchLength < 10 ? 2 : 3;
}
