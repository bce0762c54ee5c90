import type { Draft, Drafter, DraftSettings } from '../types';
import { OfferedGuesses } from './offered-guesses';
import type { StepCosts } from './step-costs';

/** Drafters tell this many kinds of guesses apart. */
export const NUM_GRADES = 4;
/** Share of right guesses assumed before anything is known. */
export const FIRST_RATE = 0.5;
/** Weight of the newest guess: about the last ten count. */
const NEWEST = 0.1;
/** A guess must promise this many times the tokens per millisecond: it costs planning ahead. */
export const MIN_GAIN = 1.05;

/** A step of decodes as it is being put together. */
export interface StepLoad {
  readonly numSequences: number;
  /** One of each sequence, and the guesses. */
  readonly numPositions: number;
  /** One of each sequence, and as many guesses as will probably be right. */
  readonly numTokens: number;
}

export const plainStep = (numSequences: number): StepLoad => ({
  numSequences,
  numPositions: numSequences,
  numTokens: numSequences,
});

/** One request's guesses: who makes them and how often they were right. */
export class Speculation {
  readonly #settings: DraftSettings;
  readonly #drafter: Drafter;
  readonly #rates: Float64Array;
  /** What the draft model has guessed; null where it is not asked. */
  readonly offered: OfferedGuesses | null;

  constructor(settings: DraftSettings, firstRate = FIRST_RATE) {
    this.#settings = settings;
    this.offered = settings.drafter === null ? new OfferedGuesses() : null;
    this.#drafter = settings.drafter ?? (this.offered as OfferedGuesses);
    this.#rates = new Float64Array(NUM_GRADES).fill(firstRate);
  }

  get isAdaptive(): boolean {
    return this.#settings.isAdaptive;
  }

  /** Guesses per step at most. */
  get maxTokens(): number {
    return this.#settings.maxTokens;
  }

  /** Share of right guesses of a grade, the latest counting most. */
  rateOf(grade: number): number {
    return this.#rates[grade] as number;
  }

  /**
   * What may follow the tokens and `numInFlight` more, which are not known yet: at most `maxTokens` and the request's own
   * limit.
   */
  draft(tokens: Int32Array, numTokens: number, maxTokens: number, numInFlight = 0): Draft | null {
    const { maxTokens: limit } = this.#settings;
    if (maxTokens < 1) return null;
    const draft = this.#drafter.draft(tokens, numTokens, numInFlight + Math.min(maxTokens, limit));
    if (draft === null || draft.tokens.length <= numInFlight) return null;
    return { tokens: draft.tokens.subarray(numInFlight), grade: draft.grade };
  }

  /**
   * The step with as many of `length` guesses as promise the most tokens per millisecond; the same step when none is worth
   * it, or when nobody knows yet what steps without guesses cost.
   */
  extended(step: StepLoad, length: number, grade: number, costs: StepCosts): StepLoad {
    const { isAdaptive } = this.#settings;
    const { numSequences } = step;
    if (isAdaptive && !costs.isKnown(numSequences)) return step;
    const rate = this.#rates[grade] as number;
    const speedOf = (load: StepLoad): number => load.numTokens / costs.of(load.numPositions, numSequences);
    let best = step;
    let bestSpeed = MIN_GAIN * speedOf(step);
    let wider = step;
    let chance = 1;
    for (let count = 1; count <= length; count += 1) {
      chance *= rate;
      const { numPositions, numTokens } = wider;
      wider = { numSequences, numPositions: numPositions + 1, numTokens: numTokens + chance };
      const speed = speedOf(wider);
      if (speed <= bestSpeed && isAdaptive) continue;
      best = wider;
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
