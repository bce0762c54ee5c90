import { Entry, PageUpdate, PlanHeader } from '../native/abi';
import { pagesFor, type RequestState } from './request-state';
import type { SchedulerState } from './scheduler-state';
import type { Draft } from './types';

/**
 * A step being planned. Nothing is final before it is emitted: a request placed here may still lose its place to one
 * that outranks it.
 */
export class StepDraft {
  readonly #state: SchedulerState;
  /** Token positions left. */
  budget: number;
  /** Those of them that prompts may have. */
  #promptRoom = Number.POSITIVE_INFINITY;
  /** Words the plan buffer needs so far. */
  numWords: number = PlanHeader.numWords;
  numPreempted = 0;
  numDecodes = 0;
  readonly #placed: RequestState[] = [];

  constructor(state: SchedulerState) {
    this.#state = state;
    this.budget = state.config.maxStepTokens;
  }

  /** In the order in which they were placed. */
  get placed(): readonly RequestState[] {
    return this.#placed;
  }

  /** All decodes are placed: neither one long prompt nor many of them must hold these up. */
  beginPrompts(): void {
    if (this.numDecodes > 0) this.#promptRoom = this.#state.pace.positionsBeside(this.numDecodes);
  }

  get isFull(): boolean {
    return this.budget === 0 || this.#promptRoom <= 0;
  }

  /** Positions one prompt may take; none when the step is full. */
  chunkFor(request: RequestState): number {
    if (!this.#state.config.splitsInputs) return request.numRemaining;
    const cap = this.numDecodes > 0 ? this.#state.config.maxChunkTokens : this.budget;
    return Math.min(request.numRemaining, this.budget, this.#promptRoom, cap);
  }

  /** False when the input has to be computed whole and the step has no room for it. */
  hasRoomFor(request: RequestState): boolean {
    return this.#state.config.splitsInputs || request.numTokens <= this.budget;
  }

  /** Gives the request its next `count` positions with their pages; when there are no pages it sits this step out. */
  place(request: RequestState, count: number): void {
    const end = request.numPlanned + count;
    if (!this.#reservePages(request, pagesFor(end) - request.pages.length)) return;
    request.planCount = count;
    this.budget -= count;
    this.#promptRoom -= count;
    this.numWords += Entry.numWords + (request.pages.length - request.numSentPages) * PageUpdate.numWords;
    this.#placed.push(request);
  }

  /** Has guesses computed and sampled after, behind the positions of a request placed before. There are pages for them. */
  extend(request: RequestState, drafted: Draft): void {
    request.drafted = drafted;
    const lastEnd = request.numPlanned + request.planCount + request.numDrafted;
    this.#reservePages(request, pagesFor(lastEnd) - request.pages.length);
    this.budget -= request.numDrafted;
  }

  /** Takes a running request off its row, and out of this step when it was placed. */
  preempt(victim: RequestState): void {
    if (victim.planCount > 0) {
      this.budget += victim.planCount;
      this.#promptRoom += victim.planCount;
      if (victim.numRemaining === 1) this.numDecodes -= 1;
      victim.planCount = 0;
      this.#placed.splice(this.#placed.indexOf(victim), 1);
      // No step knows these pages yet, so no fence holds them.
      while (victim.pages.length > victim.numSentPages) {
        const page = victim.pages.pop();
        if (page !== undefined) this.#state.pool.release(page);
      }
    }
    this.#state.preempt(victim);
    this.numPreempted += 1;
  }

  #reservePages(request: RequestState, count: number): boolean {
    if (count <= 0) return true;
    const { pool } = this.#state;
    while (count > pool.numAvailable) {
      // Pages behind a fence are on their way: preempting more than they need would only cost work.
      if (count <= pool.numAvailable + this.numReturning()) return false;
      const victim = this.#chooseVictim(request);
      if (victim === null) return false;
      this.preempt(victim);
    }
    for (let i = 0; i < count; i += 1) {
      const page = pool.tryAllocate();
      if (page !== null) request.pages.push(page);
    }
    return true;
  }

  /** Pages that the steps in flight will give back. */
  numReturning(): number {
    const { draining, running, pool } = this.#state;
    let count = 0;
    const countPages = (request: RequestState) => {
      for (const page of request.pages) if (pool.refCount(page) === 1) count += 1;
    };
    for (const request of draining) countPages(request);
    for (const request of running) if (request.numRemaining === 0) countPages(request);
    return count;
  }

  /** Who gives way to `requester`: a paused request if there is one, else the worst that it outranks, or null. */
  #chooseVictim(requester: RequestState): RequestState | null {
    let victim: RequestState | null = null;
    for (const request of this.#state.running) {
      if (!request.isPaused && !requester.outranks(request)) continue;
      if (victim === null || isBetterVictim(request, victim)) victim = request;
    }
    return victim;
  }
}

/** Past this share of its tokens a request soon frees its pages by itself. */
const NEARLY_DONE = 0.9;

function isBetterVictim(request: RequestState, victim: RequestState): boolean {
  if (request.isPaused !== victim.isPaused) return request.isPaused;
  const isNearlyDone = request.numGenerated >= NEARLY_DONE * request.maxTokens && request.isGenerating;
  const isVictimNearlyDone = victim.numGenerated >= NEARLY_DONE * victim.maxTokens && victim.isGenerating;
  if (isNearlyDone !== isVictimNearlyDone) return isVictimNearlyDone;
  return victim.outranks(request);
}
