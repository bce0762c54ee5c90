import { checkConfig, takeIn } from './intake';
import { checkState } from './invariants';
import { SchedulerState } from './scheduler-state';
import { applyDraftFailure, applyDraftResult } from './speculation/draft-rounds';
import { planStep } from './step-planner';
import { applyResult, applyStepFailure } from './step-results';
import type {
  RequestId,
  ScheduledRequest,
  SchedulerConfig,
  SchedulerCore,
  SchedulerEvent,
  SchedulerStats,
  StepPlan,
  StepResult,
} from './types';

/**
 * Continuous batching over paged KV memory: the pure core. The rules are in step-planner.ts, admission.ts and
 * step-results.ts; this class is their one entrance.
 */
export class Scheduler implements SchedulerCore {
  readonly #state: SchedulerState;

  constructor(config: SchedulerConfig) {
    checkConfig(config);
    this.#state = new SchedulerState(config);
  }

  get now(): number {
    return this.#state.now;
  }

  set now(now: number) {
    this.#state.now = now;
  }

  add(request: ScheduledRequest): void {
    takeIn(this.#state, request);
  }

  abort(id: RequestId): void {
    const request = this.#state.requests.get(id);
    if (request !== undefined) this.#state.end(request, { type: 'aborted', id });
  }

  pause(id: RequestId): void {
    const request = this.#state.requests.get(id);
    if (request !== undefined) request.isPaused = true;
  }

  resume(id: RequestId): void {
    const request = this.#state.requests.get(id);
    if (request !== undefined) request.isPaused = false;
  }

  schedule(): StepPlan | null {
    return planStep(this.#state);
  }

  apply(result: StepResult): void {
    const { draftModel } = this.#state;
    if (draftModel?.isBusy) applyDraftResult(this.#state, draftModel, result);
    else applyResult(this.#state, result);
  }

  applyFailure(step: number, message: string): void {
    const { draftModel } = this.#state;
    if (draftModel?.isBusy) applyDraftFailure(this.#state, draftModel, step);
    else applyStepFailure(this.#state, step, message);
  }

  takeEvents(): SchedulerEvent[] {
    const { events } = this.#state;
    this.#state.events = [];
    return events;
  }

  nextWakeup(): number | null {
    const { numDeadlines, requests } = this.#state;
    if (numDeadlines === 0) return null;
    let earliest = Number.POSITIVE_INFINITY;
    for (const { deadline } of requests.values())
      if (deadline !== null && deadline < earliest) earliest = deadline;
    return earliest;
  }

  stats(): SchedulerStats {
    const state = this.#state;
    return {
      numRunning: state.running.length,
      numWaiting: state.waiting.length,
      numQueuedTokens: state.waiting.numTokens,
      numFreePages: state.pool.numFree,
      numCachedPages: state.pool.numCached,
      numPages: state.pool.numPages,
      numPreemptions: state.numPreemptions,
      prefixQueryTokens: state.prefixQueryTokens,
      prefixHitTokens: state.prefixHitTokens,
      draftedTokens: state.numDrafted,
      acceptedTokens: state.numAccepted,
      steps: state.appliedStep,
    };
  }

  checkInvariants(): void {
    checkState(this.#state);
  }
}
