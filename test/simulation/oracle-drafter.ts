import type { Draft, Drafter } from '../../lib/scheduler/types';
import { mix, type SoloRun } from './fake-model';

/**
 * Guesses from the solo run, wrong at places fixed by a seed, and now and then not at all. Throws when it is asked about
 * anything but the true beginning of the sequence.
 */
export class OracleDrafter implements Drafter {
  readonly #promptTokens: Int32Array;
  readonly #solo: SoloRun;
  readonly #seed: number;
  /** One guess in this many is wrong. */
  readonly #wrongEvery: number;

  constructor(promptTokens: Int32Array, solo: SoloRun, seed: number, wrongEvery: number) {
    this.#promptTokens = promptTokens;
    this.#solo = solo;
    this.#seed = seed;
    this.#wrongEvery = wrongEvery;
  }

  draft(tokens: Int32Array, numTokens: number, maxTokens: number): Draft | null {
    for (let i = 0; i < numTokens; i += 1) {
      if (tokens[i] !== this.#tokenAt(i))
        throw new Error(`guesses are asked for after a wrong token at ${i}`);
    }
    const mood = this.#mood(numTokens, 7);
    if (mood % 5 === 0) return null;
    const guess = Int32Array.from({ length: maxTokens }, (_, i) => {
      const isWrong = this.#mood(numTokens + i, 11) % this.#wrongEvery === 0;
      return (this.#tokenAt(numTokens + i) ?? 0) + (isWrong ? 1 : 0);
    });
    return { tokens: guess.subarray(0, 1 + (mood % maxTokens)), grade: mood % 4 };
  }

  #mood(position: number, salt: number): number {
    return mix(mix(this.#seed, salt), position) >>> 1;
  }

  #tokenAt(position: number): number | undefined {
    const { length } = this.#promptTokens;
    return position < length ? this.#promptTokens[position] : this.#solo.tokens[position - length];
  }
}
