import { Admission, Entry, PageUpdate, PlanHeader } from '../../lib/native/abi';
import type { DraftModelConfig, StepPlan, StepResult } from '../../lib/scheduler/types';
import { FakeEngine, type ModelRequest, mix, readAfter, tokenAfter } from './fake-model';
import { demand } from './plan-rules';
import type { TrackedRequest } from './tracked-request';

/**
 * The draft model of a run and the rules about its steps. It draws what the target would draw, but for places fixed by a
 * seed, so its guesses show whether it read the right positions.
 */
export class DraftLane {
  readonly engine: FakeEngine;
  readonly #config: DraftModelConfig;
  readonly #seed: number;
  readonly #wrongEvery: number;
  readonly #generations = new Set<string>();
  /** What each sequence in the round has been given, and the pages each may write. */
  readonly #histories = new Map<number, number[]>();
  readonly #pages = new Map<number, { readonly row: number; readonly pages: number[] }>();

  constructor(
    config: DraftModelConfig,
    requestOf: (id: number) => ModelRequest,
    seed: number,
    wrongEvery: number,
  ) {
    this.#config = config;
    this.#seed = seed;
    this.#wrongEvery = wrongEvery;
    this.engine = new FakeEngine(config.numPages, requestOf, (read) => this.#draw(read));
  }

  /** Rules about a plan, before it runs. */
  take(plan: StepPlan, live: ReadonlyMap<number, TrackedRequest>): void {
    const { config, numTokens } = { config: this.#config, numTokens: numPositions(plan) };
    demand(plan.entries.length > 0, 'a draft plan computes something', { step: plan.step });
    demand(numTokens <= config.maxStepTokens, 'a draft step keeps its budget', { numTokens });
    const numWords =
      PlanHeader.numWords +
      plan.admissions.reduce((sum, { tokens }) => sum + Admission.numWords + tokens.length, 0) +
      plan.entries.length * Entry.numWords +
      plan.pageUpdates.length * PageUpdate.numWords;
    demand(numWords <= config.maxPlanWords, 'a draft plan fits its buffer', { numWords });
    for (const { id, start, count, samples } of plan.entries) {
      const isInContext = start + count < config.contextLength + (samples ? 0 : 1);
      demand(count >= 1 && isInContext, 'a draft entry computes positions of the context', {
        id,
        start,
        count,
      });
    }
    for (const { id, row, generation, tokens } of plan.admissions) {
      const tracked = live.get(id);
      demand(tracked?.request.drafts?.drafter === null, 'who is guessed for wants it', { id });
      demand(row < config.maxRows, 'a draft row exists', { row });
      demand(!this.#generations.has(`${row}/${generation}`), 'a draft row never has a generation twice', {
        row,
      });
      this.#generations.add(`${row}/${generation}`);
      const history = tracked?.history() ?? [];
      demand(String(history) === String([...tokens]), 'guesses are made from the known tokens', { id });
      this.#histories.set(id, history);
      this.#pages.set(id, { row, pages: [] });
      demand(
        tokens.every((token) => token < config.vocabSize),
        'the draft model knows its tokens',
        { id },
      );
    }
    const idOfRow = new Map([...this.#pages].map(([id, { row }]) => [row, id]));
    for (const { row, page } of plan.pageUpdates) {
      demand(page < config.numPages, 'a draft page exists', { page });
      this.#pages.get(idOfRow.get(row) ?? -1)?.pages.push(page);
    }
    this.#checkOwners(plan);
  }

  /** The guesses of a step: each is what the model draws after everything before it. */
  finish(plan: StepPlan, result: StepResult): void {
    plan.entries.forEach(({ id, samples }, i) => {
      const token = result.entries[i]?.token ?? -1;
      const history = this.#histories.get(id);
      if (!samples || token < 0 || history === undefined) return;
      demand(token === this.#solo(history, id), 'a guess depends on the sequence alone', { id, token });
      history.push(token);
    });
  }

  /** Guesses given to the target are the draft model's own, in order. */
  checkGuesses({ request }: TrackedRequest, known: readonly number[], guesses: Int32Array): void {
    const history = [...known];
    for (const guess of guesses) {
      demand(guess < this.#config.vocabSize, 'the target knows a guess', { guess });
      demand(guess === this.#solo(history, request.id), 'a guess is what the draft model drew', {
        id: request.id,
        guess,
      });
      history.push(guess);
    }
  }

  #salts = new Map<number, string>();

  know(id: number, salt: string): void {
    this.#salts.set(id, salt);
  }

  #checkOwners(plan: StepPlan): void {
    const owners = new Map<number, number>();
    for (const { id } of plan.entries) {
      for (const page of this.#pages.get(id)?.pages ?? []) {
        demand(!owners.has(page), 'a draft page has one owner', { page, id, other: owners.get(page) });
        owners.set(page, id);
      }
    }
  }

  #solo(history: readonly number[], id: number): number {
    return this.#draw(readAfter(history, this.#salts.get(id) ?? ''));
  }

  #draw(read: number): number {
    const isWrong = (mix(this.#seed, read) >>> 1) % this.#wrongEvery === 0;
    return tokenAfter(read) + (isWrong ? 1 : 0);
  }
}

const numPositions = ({ entries }: StepPlan): number => entries.reduce((sum, { count }) => sum + count, 0);
