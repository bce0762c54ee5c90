import { AutoglmError } from '../errors';
import { PagePool } from './pages/page-pool';
import { PrefixCache } from './pages/prefix-cache';
import { PromptPace } from './prompt-pace';
import { pagesFor, type RequestState } from './request-state';
import { RowTable } from './row-table';
import { DraftModel } from './speculation/draft-model';
import { StepCosts } from './speculation/step-costs';
import { Throughput } from './throughput';
import type { PageId, RequestId, SchedulerConfig, SchedulerEvent, StepPlan } from './types';
import { WaitingQueue } from './waiting-queue';

/** A plan whose result has not been applied. */
export interface StepInFlight {
  readonly plan: StepPlan;
  /** One per entry of the plan. */
  readonly requests: readonly RequestState[];
  readonly plannedAt: number;
}

/**
 * Everything the scheduler knows, and the ways in which a request leaves its row.
 * Invariant: a live request is in `running` (in admission order) or in `waiting`; requests whose pages wait for a fence
 * are in `draining` too.
 */
export class SchedulerState {
  now = 0;
  readonly config: SchedulerConfig;
  readonly pool: PagePool;
  readonly cache: PrefixCache;
  readonly rows: RowTable;
  readonly throughput = new Throughput();
  readonly costs = new StepCosts();
  readonly pace = new PromptPace();
  readonly draftModel: DraftModel | null;
  readonly requests = new Map<RequestId, RequestState>();
  readonly waiting = new WaitingQueue();
  readonly running: RequestState[] = [];
  readonly inFlight: StepInFlight[] = [];
  draining: RequestState[] = [];
  events: SchedulerEvent[] = [];
  /** Requests that ever arrived. */
  numArrivals = 0;
  /** The newest step planned and the newest one applied. */
  plannedStep = 0;
  appliedStep = 0;
  /** Live requests with a deadline. */
  numDeadlines = 0;
  /** Live requests whose tokens are guessed. */
  numSpeculating = 0;
  /** Tokens guessed, and how many of them were right. */
  numDrafted = 0;
  numAccepted = 0;
  numPreemptions = 0;
  prefixQueryTokens = 0;
  prefixHitTokens = 0;

  constructor(config: SchedulerConfig) {
    this.config = config;
    this.pool = new PagePool(config.numPages);
    this.cache = new PrefixCache(this.pool);
    this.rows = new RowTable(config.maxRows);
    this.draftModel = config.draftModel === null ? null : new DraftModel(config.draftModel);
  }

  /** Ends a live request in any phase; `event` is the last its caller hears. */
  end(request: RequestState, event: SchedulerEvent): void {
    if (request.phase === 'waiting') this.waiting.remove(request);
    else this.#leaveRow(request);
    request.phase = 'ended';
    this.requests.delete(request.id);
    if (request.deadline !== null) this.numDeadlines -= 1;
    if (request.speculation !== null) this.numSpeculating -= 1;
    this.draftModel?.ended(request, event.type === 'finished');
    this.#vacatePages(request);
    this.events.push(event);
  }

  /**
   * Takes the row and the pages of a running request, which waits again with what it generated so far. Tokens that steps
   * in flight sample for it are still accepted, so nothing is computed twice but the cache's misses.
   */
  preempt(request: RequestState): void {
    this.#leaveRow(request);
    request.phase = 'waiting';
    this.waiting.insert(request);
    this.numPreemptions += 1;
    this.#vacatePages(request);
    this.events.push({ type: 'preempted', id: request.id });
  }

  /** The result of `step` has been applied: pages behind its fence come back. */
  passFence(step: number): void {
    this.appliedStep = step;
    if (this.draining.length === 0) return;
    const passed = this.draining.filter((request) => request.lastStep <= step);
    if (passed.length === 0) return;
    this.draining = this.draining.filter((request) => request.lastStep > step);
    for (const request of passed) {
      request.isDraining = false;
      this.#releasePages(request);
    }
  }

  /** Gives back the pages behind the planned positions. No step in flight may touch them. */
  trimPages(request: RequestState): void {
    const numNeeded = pagesFor(request.numPlanned);
    while (request.pages.length > numNeeded) this.pool.release(request.pages.pop() as PageId);
    request.numSentPages = request.pages.length;
  }

  #leaveRow(request: RequestState): void {
    const index = this.running.indexOf(request);
    if (index < 0) throw new AutoglmError('internal', `request ${request.id} does not run`);
    this.running.splice(index, 1);
    this.rows.release(request.row);
    request.row = -1;
  }

  #vacatePages(request: RequestState): void {
    if (request.isDraining) return;
    if (request.lastStep > this.appliedStep) {
      request.isDraining = true;
      this.draining.push(request);
    } else {
      this.#releasePages(request);
    }
  }

  /** Tail first: the head of a prompt, which others are likeliest to share, is evicted last. */
  #releasePages(request: RequestState): void {
    for (let page = request.pages.pop(); page !== undefined; page = request.pages.pop())
      this.pool.release(page);
    request.numSentPages = 0;
  }
}
