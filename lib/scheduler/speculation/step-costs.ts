import { Limits } from '../../native/abi';

/** Wider steps are busy enough without guesses. */
const MAX_POSITIONS = 2 * Limits.maxStepDrafts;
/** Weight of the newest step. */
const NEWEST = 0.2;
/** A step that was interrupted says little: it counts as this many times the known cost at most. */
const MAX_OUTLIER = 2;
/** A cost not renewed within this many steps may have changed with the load of the machine. */
const MAX_AGE = 256;

/** What steps cost by the positions they compute, one of each sequence and drafts, as measured. Times in ms. */
export class StepCosts {
  readonly #costs = new Float64Array(MAX_POSITIONS + 1);
  readonly #measuredAt = new Float64Array(MAX_POSITIONS + 1).fill(Number.NEGATIVE_INFINITY);
  #numSteps = 0;

  record(numPositions: number, elapsed: number): void {
    this.#numSteps += 1;
    if (numPositions > MAX_POSITIONS) return;
    const known = this.#costs[numPositions] as number;
    this.#costs[numPositions] = this.isKnown(numPositions)
      ? known + NEWEST * (Math.min(elapsed, MAX_OUTLIER * known) - known)
      : elapsed;
    this.#measuredAt[numPositions] = this.#numSteps;
  }

  isKnown(numPositions: number): boolean {
    return this.#numSteps - (this.#measuredAt[numPositions] ?? Number.NEGATIVE_INFINITY) <= MAX_AGE;
  }

  /**
   * The cost of a step at least as wide as `from`, which is known. What lies beyond everything measured is taken to cost no
   * more, so that it is tried.
   */
  of(numPositions: number, from: number): number {
    let narrower = numPositions;
    while (narrower > from && !this.isKnown(narrower)) narrower -= 1;
    let wider = numPositions;
    while (wider <= MAX_POSITIONS && !this.isKnown(wider)) wider += 1;
    const low = this.#costs[narrower] as number;
    if (narrower === wider || wider > MAX_POSITIONS) return low;
    const high = this.#costs[wider] as number;
    return low + ((high - low) * (numPositions - narrower)) / (wider - narrower);
  }
}
