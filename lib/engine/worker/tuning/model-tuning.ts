import type { TuningStats } from '../../stats-types';
import { SizeTuner, type StepSize, type Trial } from './size-tuner';
import { SIZE_BOUNDS, type StepCut, type TuningChoice, untunedCut } from './step-cut';
import type { TuningStore } from './tuning-store';

/** A step's cut, and what to do with its time. */
export interface ChosenCut {
  readonly cut: StepCut;
  readonly sizeClass: number;
  /** Null when the time is of no interest. */
  readonly trial: Trial | null;
}

/**
 * How one model's steps are cut. What an earlier process found out is used from the first step on; size classes that it
 * did not settle are tuned while they run, and stored as soon as they are.
 */
export class ModelTuning {
  readonly #numThreads: number;
  readonly #store: TuningStore;
  readonly #stored: ReadonlyMap<number, TuningChoice>;
  readonly #tuners = new Map<number, SizeTuner>();
  #measuredSteps = 0;

  private constructor(numThreads: number, store: TuningStore, stored: readonly TuningChoice[]) {
    this.#numThreads = numThreads;
    this.#store = store;
    this.#stored = new Map(stored.map((choice) => [choice.maxPositions, choice]));
  }

  /** With the warnings of the store's file, which is ignored when it makes no sense. */
  static async open(
    numThreads: number,
    store: TuningStore,
  ): Promise<{ readonly tuning: ModelTuning; readonly warnings: readonly string[] }> {
    const { choices, warnings } = await store.read();
    return { tuning: new ModelTuning(numThreads, store, choices), warnings };
  }

  choose(numPositions: number): ChosenCut {
    const sizeClass = SIZE_BOUNDS.find((bound) => numPositions <= bound) ?? 0;
    const stored = this.#stored.get(sizeClass);
    if (stored !== undefined) return { cut: stored, sizeClass, trial: null };
    return { sizeClass, ...this.#tunerOf(sizeClass).choose() };
  }

  /** A step has taken this long. */
  record({ sizeClass, trial }: ChosenCut, size: StepSize, micros: number): void {
    if (trial === null) return;
    const tuner = this.#tunerOf(sizeClass);
    if (tuner.isSettled) return;
    this.#measuredSteps += 1;
    tuner.record(trial, size, micros);
    if (tuner.isSettled) this.#store.write(this.#settled());
  }

  stats(): TuningStats {
    return {
      measuredSteps: this.#measuredSteps,
      choices: [...this.#stored.values(), ...this.#settled()].map(
        ({ maxPositions, numThreads, chunkPercent }) => ({ maxPositions, threads: numThreads, chunkPercent }),
      ),
      storeFailure: this.#store.failure,
    };
  }

  /** Waits for what is being stored; what is not settled is lost. */
  close(): Promise<void> {
    return this.#store.close();
  }

  #tunerOf(sizeClass: number): SizeTuner {
    let tuner = this.#tuners.get(sizeClass);
    if (tuner === undefined) {
      tuner = new SizeTuner(untunedCut(this.#numThreads));
      this.#tuners.set(sizeClass, tuner);
    }
    return tuner;
  }

  #settled(): TuningChoice[] {
    const choices: TuningChoice[] = [];
    for (const [maxPositions, tuner] of this.#tuners) {
      if (tuner.isSettled) choices.push({ maxPositions, ...tuner.best });
    }
    return choices;
  }
}
