import { FIRST_RATE, MIN_GAIN } from './speculation';
import type { StepCosts } from './step-costs';

/** Weight of the newest measurement. */
const NEWEST = 0.2;
/** A step that was interrupted says little: it counts as this many times the known cost at most. */
const MAX_OUTLIER = 2;
/** A position that is caught up with costs this share of a step of one, until it is measured. */
const FIRST_LAG_COST = 1 / 8;
/** Tokens an answer is taken to have until some have ended. */
const FIRST_ANSWER_LENGTH = 128;
/** Share of the time of plain steps that guesses may cost without a gain. */
const INCOME = 0.01;
/** What may be lost before anything was gained, and the most that gains count for later. */
const FIRST_CREDIT = 20;
const MAX_CREDIT = 100;

const NOTHING: DraftDecision = { numGuesses: 0, isTrial: false };

/** The next step of decodes, and those of its sequences that may be guessed for. */
export interface DraftChoice {
  readonly numSequences: number;
  readonly candidates: readonly DraftCandidate[];
}

export interface DraftCandidate {
  /** Share of guesses that were right. */
  readonly rate: number;
  /** Guesses it takes at most. */
  readonly most: number;
  /** Positions to compute before the first guess. */
  readonly lag: number;
}

/** Guesses per sequence for the next step. A trial is for one sequence alone. */
export interface DraftDecision {
  readonly numGuesses: number;
  readonly isTrial: boolean;
}

/** A step of decodes of the target, times in ms. */
export interface DecodedStep {
  readonly numSequences: number;
  /** Tokens that the step brought beyond one of each sequence. */
  readonly numAccepted: number;
  readonly elapsed: number;
  /** What it would have taken without guesses. */
  readonly plain: number;
}

/**
 * Decides when a draft model is worth its time. Estimates promise a gain; an account of what rounds really gained or lost
 * has the last word, so that a wrong promise costs little. The unit of the account is the time of a plain step.
 */
export class DraftEconomy {
  /** Time of a draft step in plain steps, of the same sequences. */
  #stepCost: number;
  #lagCost: number;
  #rate = FIRST_RATE;
  #answerLength = FIRST_ANSWER_LENGTH;
  #credit = FIRST_CREDIT;
  /** Time of a plain step in ms, as it was when guesses were last decided on. */
  #plain = 0;
  /** What the draft steps since the last step of the target are charged. */
  #charge = 0;
  #isTrial = false;

  constructor(relativeCost: number) {
    this.#stepCost = relativeCost;
    this.#lagCost = relativeCost * FIRST_LAG_COST;
  }

  /** What is assumed of a new request's guesses. */
  get rate(): number {
    return this.#rate;
  }

  choose(choice: DraftChoice, costs: StepCosts): DraftDecision {
    const { numSequences, candidates } = choice;
    this.#isTrial = false;
    this.#plain = costs.isKnown(numSequences) ? costs.of(numSequences, numSequences) : 0;
    if (candidates.length === 0 || this.#plain === 0) return NOTHING;
    const { numGuesses, gain } = this.#best(choice, costs);
    if (numGuesses > 0 && this.#repaysLag(choice, gain))
      return this.#credit > 0 ? { numGuesses, isTrial: false } : NOTHING;
    this.#isTrial = this.#mayTry(choice);
    return this.#isTrial ? { numGuesses: 1, isTrial: true } : NOTHING;
  }

  /** The number of guesses that promises the most tokens per time, and how many times those of plain steps. */
  #best({ numSequences, candidates }: DraftChoice, costs: StepCosts): { numGuesses: number; gain: number } {
    const most = candidates.reduce((max, candidate) => Math.max(max, candidate.most), 0);
    let best = 0;
    let bestGain = MIN_GAIN;
    let numTokens = numSequences;
    let numPositions = numSequences;
    for (let count = 1; count <= most; count += 1) {
      for (const candidate of candidates) {
        if (candidate.most < count) continue;
        numPositions += 1;
        numTokens += candidate.rate ** count;
      }
      const time = costs.of(numPositions, numSequences) / this.#plain + count * this.#stepCost;
      const gain = numTokens / numSequences / time;
      if (gain <= bestGain) continue;
      best = count;
      bestGain = gain;
    }
    return { numGuesses: best, gain: bestGain };
  }

  /** What is computed once per answer is made good by the end of it. */
  #repaysLag({ numSequences, candidates }: DraftChoice, gain: number): boolean {
    const lag = candidates.reduce((sum, candidate) => sum + candidate.lag, 0);
    return lag * this.#lagCost <= (1 - 1 / gain) * this.#answerLength * (candidates.length / numSequences);
  }

  /** Nothing is promised, but things may have changed and the account can pay for finding out. */
  #mayTry({ candidates }: DraftChoice): boolean {
    const lag = candidates.reduce((sum, candidate) => sum + candidate.lag, 0);
    return this.#credit > FIRST_CREDIT + lag * this.#lagCost + this.#stepCost;
  }

  /** A draft step computed `numPositions` for `numSequences`. */
  stepEnded(numPositions: number, numSequences: number, elapsed: number): void {
    if (this.#plain === 0) return;
    const cost = elapsed / this.#plain;
    const isCatchingUp = numPositions > 2 * numSequences;
    // What is caught up with serves all of the answer: only a trial may be for nothing.
    this.#charge += isCatchingUp && !this.#isTrial ? Math.min(cost, this.#stepCost) : cost;
    if (isCatchingUp) this.#lagCost = measured(this.#lagCost, cost / numPositions);
    else this.#stepCost = measured(this.#stepCost, cost);
  }

  /** A step of the target has ended: without guesses, what they may cost grows; with them, the account is settled. */
  decoded({ numSequences, numAccepted, elapsed, plain }: DecodedStep): void {
    let gained = INCOME;
    if (this.#charge > 0 || numAccepted > 0)
      gained = (numSequences + numAccepted) / numSequences - elapsed / plain - this.#charge;
    this.#charge = 0;
    this.#credit = Math.max(-FIRST_CREDIT, Math.min(MAX_CREDIT, this.#credit + gained));
  }

  /** An answer has ended with so many tokens, and guesses for it were right at this rate. */
  answerEnded(numTokens: number, rate: number): void {
    this.#answerLength += NEWEST * (numTokens - this.#answerLength);
    this.#rate += NEWEST * (rate - this.#rate);
  }
}

const measured = (known: number, found: number): number =>
  known + NEWEST * (Math.min(found, MAX_OUTLIER * known) - known);
