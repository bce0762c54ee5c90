/** Weight of the newest step: about the last twenty steps count. */
const NEWEST = 0.1;
const MIN_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;

/** Measured speed of steps, for telling refused callers when to come back. Times in ms. */
export class Throughput {
  #tokensPerStep = 0;
  #msPerStep = 0;
  #lastEnd = 0;

  /**
   * Steps overlap: one begins when it was planned or when the one before it ended, whichever is later. Returns how long this
   * one took.
   */
  stepEnded(plannedAt: number, now: number, numTokens: number): number {
    const elapsed = Math.max(0, now - Math.max(plannedAt, this.#lastEnd));
    this.#lastEnd = now;
    const weight = this.#tokensPerStep === 0 ? 1 : NEWEST;
    this.#tokensPerStep += weight * (numTokens - this.#tokensPerStep);
    this.#msPerStep += weight * (elapsed - this.#msPerStep);
    return elapsed;
  }

  /** Time until `numTokens` queued tokens should have been computed, within sensible bounds. */
  retryAfterMs(numTokens: number): number {
    if (this.#tokensPerStep === 0) return MIN_RETRY_MS;
    const expected = (numTokens / this.#tokensPerStep) * this.#msPerStep;
    return Math.round(Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, expected)));
  }
}
