import { MOVES, type StepCut } from './step-cut';

/** A step that was cut in one of two ways, to see which is faster. */
export interface Trial {
  /** Of the comparison it belongs to; results of one that is over are ignored. */
  readonly comparison: number;
  /** 0..3: a comparison runs A B B A, so that a machine that slows down steadily favours neither. */
  readonly place: number;
}

/** What a step did, as far as its time depends on it. */
export interface StepSize {
  readonly numPositions: number;
  readonly numEntries: number;
}

/** Comparisons of four steps each before a cut replaces another, and how many of them it must win. */
const NUM_ROUNDS = 12;
const MIN_WINS = 11;
/** A cut replaces another only when it saves this share of the time, by the median of the rounds. */
const MIN_GAIN = 0.05;
/** A step that somebody notices, and how much slower a candidate may be there: no noise is of that size. */
const LONG_STEP_MICROS = 50_000;
const CLEAR_LOSS = 1.4;
/** The first steps touch memory for the first time. */
const NUM_WARM_UP_STEPS = 4;
/** Steps of one round may differ this much in their number of positions. */
const MAX_SIZE_RATIO = 1.125;

/**
 * Finds the cut for steps of one size class while they run anyway: each comparison pits the best cut so far (A) against a
 * candidate (B). Pure: times come in, cuts go out. Chance alone replaces a cut in 0.3 % of the comparisons (11 of 12 tosses),
 * and a candidate that is slower is given up at the second round it loses; where steps are long, at the first clear loss.
 */
export class SizeTuner {
  #best: StepCut;
  #candidate: StepCut | null = null;
  #move = 0;
  #comparison = 0;
  #numChosen = -NUM_WARM_UP_STEPS;
  #round: { readonly size: StepSize; readonly times: number[] } | null = null;
  /** Time of B over that of A, of each round so far. */
  #ratios: number[] = [];

  /** Tries everything, starting with `untuned`. */
  constructor(untuned: StepCut) {
    this.#best = untuned;
    this.#compareNext();
  }

  get best(): StepCut {
    return this.#best;
  }

  /** Nothing is left to be tried. */
  get isSettled(): boolean {
    return this.#candidate === null;
  }

  choose(): { readonly cut: StepCut; readonly trial: Trial | null } {
    const number = this.#numChosen;
    this.#numChosen += 1;
    if (this.#candidate === null || number < 0) return { cut: this.#best, trial: null };
    const place = number % 4;
    const cut = place === 0 || place === 3 ? this.#best : this.#candidate;
    return { cut, trial: { comparison: this.#comparison, place } };
  }

  /** Results come in the order of the choices; those of failed steps do not come. */
  record({ comparison, place }: Trial, size: StepSize, micros: number): void {
    if (comparison !== this.#comparison) return;
    if (place === 0) this.#round = { size, times: [] };
    const round = this.#round;
    if (round === null) return;
    if (place !== round.times.length || !areAlike(round.size, size) || micros <= 0) {
      this.#round = null; // up to the next A B B A
      return;
    }
    round.times.push(micros / size.numPositions);
    const [a = 0, b = 0, b2 = 0, a2] = round.times;
    if (round.times.length === 2 && micros >= LONG_STEP_MICROS && b > CLEAR_LOSS * a) this.#giveUp();
    if (a2 === undefined) return;
    this.#round = null;
    this.#ratios.push((b + b2) / (a + a2));
    this.#judge();
  }

  #judge(): void {
    const numWins = this.#ratios.filter((ratio) => ratio < 1).length;
    if (this.#ratios.length - numWins > NUM_ROUNDS - MIN_WINS) {
      this.#giveUp();
      return;
    }
    if (this.#ratios.length < NUM_ROUNDS) return;
    if (this.#candidate !== null && medianOf(this.#ratios) < 1 - MIN_GAIN) this.#best = this.#candidate;
    else this.#move += 1;
    this.#compareNext();
  }

  #giveUp(): void {
    this.#move += 1;
    this.#compareNext();
  }

  #compareNext(): void {
    this.#comparison += 1;
    this.#numChosen = Math.min(this.#numChosen, 0);
    this.#round = null;
    this.#ratios = [];
    for (; this.#move < MOVES.length; this.#move += 1) {
      this.#candidate = MOVES[this.#move]?.(this.#best) ?? null;
      if (this.#candidate !== null) return;
    }
    this.#candidate = null;
  }
}

function areAlike(a: StepSize, b: StepSize): boolean {
  const larger = Math.max(a.numPositions, b.numPositions);
  const smaller = Math.min(a.numPositions, b.numPositions);
  return a.numEntries === b.numEntries && larger <= MAX_SIZE_RATIO * smaller;
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2;
}
