/** A step between two tokens of one answer that nobody notices, also when another is queued behind it. */
const UNNOTICED_STEP_MS = 40;
/** Prompts may make a step this many times as long as one of decodes alone: they get three quarters of the time then. */
const MAX_STRETCH = 4;
/** With fewer positions a step's products do little more work than reading the weights. */
const MIN_POSITIONS = 32;
/** Weight of the newest step. */
const NEWEST = 0.2;
/** A step that was interrupted says little: it counts as this many times the known time at most. */
const MAX_OUTLIER = 2;

/**
 * How many prompt positions a step takes beside decodes, so that prompts that arrive in numbers do not make those who read
 * an answer wait for all of them at once. Learns from what steps took. Times in ms.
 */
export class PromptPace {
  #msPerPosition = 0;
  #decodeMs = 0;

  /** What a step of decodes alone takes; 0 before one was measured. */
  get decodeMs(): number {
    return this.#decodeMs;
  }

  /** A step of decodes alone. */
  recordDecodes(elapsed: number): void {
    this.#decodeMs = renewed(this.#decodeMs, elapsed);
  }

  /** A step with prompts in it. */
  recordPrompts(numPositions: number, elapsed: number): void {
    this.#msPerPosition = renewed(this.#msPerPosition, elapsed / numPositions);
  }

  /** Positions for prompts in a step with `numDecodes` decodes; no limit before anything is known. */
  positionsBeside(numDecodes: number): number {
    if (this.#msPerPosition === 0) return Number.POSITIVE_INFINITY;
    const stepMs = Math.max(UNNOTICED_STEP_MS, MAX_STRETCH * this.#decodeMs);
    return Math.max(MIN_POSITIONS, Math.floor(stepMs / this.#msPerPosition) - numDecodes);
  }
}

const renewed = (known: number, measured: number): number =>
  known === 0 ? measured : known + NEWEST * (Math.min(measured, MAX_OUTLIER * known) - known);
