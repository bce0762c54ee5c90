import { AutoglmError } from '../errors';
import { Limits, RequestKind } from '../native/abi';
import type { PageKey } from './pages/page-keys';
import type { Speculation } from './speculation/speculation';
import type { Draft, PageId, RequestId, ScheduledRequest } from './types';

export type RequestPhase = 'waiting' | 'running' | 'ended';

/** What the scheduler adds to a request when it is queued. */
export interface RequestPlace {
  /** Output tokens that the context leaves room for, at most what was asked. */
  readonly maxTokens: number;
  readonly rank: number;
  readonly arrival: number;
  readonly sharesPrefix: boolean;
  readonly speculation: Speculation | null;
}

/**
 * One live request. No prefill and no decode phase: `numPlanned` chases `numWanted`.
 * Invariant: numComputed <= numPlanned <= numWanted <= numLimit, and `pages` covers every planned and drafted position.
 */
export class RequestState {
  readonly id: RequestId;
  readonly kind: number;
  readonly numPromptTokens: number;
  readonly maxTokens: number;
  readonly deadline: number | null;
  readonly salt: string;
  readonly speculation: Speculation | null;
  readonly sharesPrefix: boolean;
  /** Arrival time in ms, earlier by the aging time for each priority level. The lowest goes first. */
  readonly rank: number;
  /** Counts requests; breaks ties of `rank`. */
  readonly arrival: number;
  /** Positions to compute in all. The last output token is never fed back. */
  readonly numLimit: number;

  phase: RequestPhase = 'waiting';
  isPaused = false;
  /** Its pages wait for the fence of `lastStep`. */
  isDraining = false;
  hasStarted = false;
  hasPrefilled = false;

  /** Prompt and output; only the first `numTokens` are set. */
  tokens: Int32Array;
  numTokens: number;
  /** Tokens that steps in flight will sample. */
  numSampling = 0;
  /** Positions computed by applied steps. */
  numComputed = 0;
  /** Positions computed once every planned step has run. */
  numPlanned = 0;
  /** Positions the step being planned gives it; 0 outside of planning. */
  planCount = 0;
  /** The guesses the step being planned computes after `planCount` positions, then those in flight; they are not planned
   * positions, since nobody knows yet whether they will stand. */
  drafted: Draft | null = null;
  /** The last step that touches its pages: their fence. */
  lastStep = 0;

  row = -1;
  generation = 0;
  /** The page table. */
  readonly pages: PageId[] = [];
  /** Entries of `pages` the native row knows. */
  numSentPages = 0;
  numPublishedPages = 0;
  /** Keys of the full pages so far; they outlive preemption. */
  readonly pageKeys: PageKey[] = [];

  constructor(request: ScheduledRequest, place: RequestPlace) {
    this.id = request.id;
    this.kind = request.kind;
    this.numPromptTokens = request.promptTokens.length;
    this.maxTokens = place.maxTokens;
    this.deadline = request.deadline;
    this.salt = request.salt;
    this.speculation = place.speculation;
    this.sharesPrefix = place.sharesPrefix;
    this.rank = place.rank;
    this.arrival = place.arrival;
    this.tokens = request.promptTokens;
    this.numTokens = this.numPromptTokens;
    this.numLimit = numPositions(this.numPromptTokens, place.maxTokens);
  }

  get isGenerating(): boolean {
    return this.kind === RequestKind.generate;
  }

  get numGenerated(): number {
    return this.numTokens - this.numPromptTokens;
  }

  /** Known tokens and those that steps in flight will sample. */
  get historyLength(): number {
    return this.numTokens + this.numSampling;
  }

  get numWanted(): number {
    return Math.min(this.historyLength, this.numLimit);
  }

  /** Positions that no step computes yet; 0 when the request is certain to end with the steps in flight. */
  get numRemaining(): number {
    return this.numWanted - this.numPlanned;
  }

  get numDrafted(): number {
    return this.drafted?.tokens.length ?? 0;
  }

  outranks(other: RequestState): boolean {
    return this.rank < other.rank || (this.rank === other.rank && this.arrival < other.arrival);
  }

  append(token: number): void {
    if (this.numGenerated >= this.maxTokens) {
      throw new AutoglmError('internal', `request ${this.id} got more than its ${this.maxTokens} tokens`);
    }
    if (this.numTokens === this.tokens.length) {
      const capacity = Math.min(2 * this.numTokens, this.numPromptTokens + this.maxTokens);
      const grown = new Int32Array(capacity);
      grown.set(this.tokens);
      this.tokens = grown;
    }
    this.tokens[this.numTokens] = token;
    this.numTokens += 1;
  }
}

/** Positions whose keys and values a request needs at its longest. */
export function numPositions(numPromptTokens: number, maxTokens: number): number {
  return numPromptTokens + Math.max(0, maxTokens - 1);
}

/** Pages that hold `numTokens` positions. */
export function pagesFor(numTokens: number): number {
  return Math.ceil(numTokens / Limits.pageSize);
}
