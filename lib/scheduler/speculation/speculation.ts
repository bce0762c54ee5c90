import type { Draft, DraftSettings } from '../types';
import type { StepCosts } from './step-costs';

/** Drafters tell this many kinds of guesses apart. */
export const NUM_GRADES = 4;
/** Share of right guesses assumed before anything is known. */
const FIRST_RATE = 0.5;
/** Weight of the newest guess: about the last ten count. */
const NEWEST = 0.1;
/** A guess must promise this many times the tokens per millisecond: it costs planning ahead. */
const MIN_GAIN = 1.05;

/** One request's guesses: who makes them and how often they were right. */
export class Speculation {
  readonly #settings: DraftSettings;
  readonly #rates = new Float64Array(NUM_GRADES).fill(FIRST_RATE);

  constructor(settings: DraftSettings) {
    this.#settings = settings;
  }

  /**
   * What may follow the tokens and `numInFlight` more, which are not known yet: at most `maxTokens` and the request's own
   * limit.
   */
  draft(tokens: Int32Array, numTokens: number, maxTokens: number, numInFlight = 0): Draft | null {
    const { drafter, maxTokens: limit } = this.#settings;
    if (maxTokens < 1) return null;
    const draft = drafter.draft(tokens, numTokens, numInFlight + Math.min(maxTokens, limit));
    if (draft === null || draft.tokens.length <= numInFlight) return null;
    return { tokens: draft.tokens.subarray(numInFlight), grade: draft.grade };
  }

  /**
   * How many of `length` guesses are worth a place in a step that computes `numPositions` and samples as many tokens
   * without them: the number that promises the most tokens per millisecond, 0 when none is worth it.
   */
  worthwhile(length: number, grade: number, numPositions: number, costs: StepCosts): number {
    if (!this.#settings.isAdaptive) return length;
    if (!costs.isKnown(numPositions)) return 0; // a step without guesses measures it
    const rate = this.#rates[grade] as number;
    let best = 0;
    let bestSpeed = (MIN_GAIN * numPositions) / costs.of(numPositions, numPositions);
    let numTokens = numPositions;
    let chance = 1;
    for (let count = 1; count <= length; count += 1) {
      chance *= rate;
      numTokens += chance;
      const speed = numTokens / costs.of(numPositions + count, numPositions);
      if (speed <= bestSpeed) continue;
      best = count;
      bestSpeed = speed;
    }
    return best;
  }

  /** A token came without a guess: would the guess have been right? */
  observe(tokens: Int32Array, numTokens: number, token: number): void {
    const guess = this.draft(tokens, numTokens, 1);
    if (guess !== null) this.#learn(guess.grade, guess.tokens[0] === token);
  }

  /** The first `numAccepted` guesses of a draft were right; the next one was wrong when `isRefused`. */
  settle(grade: number, numAccepted: number, isRefused: boolean): void {
    for (let i = 0; i < numAccepted; i += 1) this.#learn(grade, true);
    if (isRefused) this.#learn(grade, false);
  }

  #learn(grade: number, isRight: boolean): void {
    const rate = this.#rates[grade] as number;
    this.#rates[grade] = rate + NEWEST * ((isRight ? 1 : 0) - rate);
  }
}
