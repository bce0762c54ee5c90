import type { Draft, Drafter } from '../types';

const NONE = new Int32Array(0);

/** Holds what a draft model has guessed for one request until it is asked. */
export class OfferedGuesses implements Drafter {
  #tokens: Int32Array = NONE;
  #numTokens = -1;

  /** `tokens` may follow the first `numTokens` of the sequence; none at all is an answer too. */
  offer(tokens: Int32Array, numTokens: number): void {
    this.#tokens = tokens;
    this.#numTokens = numTokens;
  }

  /** The model has had its say about what follows the first `numTokens`. */
  isFor(numTokens: number): boolean {
    return this.#numTokens === numTokens;
  }

  draft(_tokens: Int32Array, numTokens: number, maxTokens: number): Draft | null {
    if (!this.isFor(numTokens) || this.#tokens.length === 0) return null;
    return { tokens: this.#tokens.subarray(0, maxTokens), grade: 0 };
  }
}
