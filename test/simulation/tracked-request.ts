import { Limits, RequestKind } from '../../lib/native/abi';
import type { PlanEntry } from '../../lib/scheduler/types';
import { type SoloRun, soloRun } from './fake-model';
import type { SimulatedRequest } from './scenario';

/** What the simulation itself believes about a request, from plans, events and its own commands only. */
export class TrackedRequest {
  readonly request: SimulatedRequest;
  readonly solo: SoloRun;
  /** Output tokens the context leaves room for. */
  readonly maxTokens: number;
  readonly rank: number;
  readonly arrival: number;
  phase: 'waiting' | 'running' | 'ended' = 'waiting';
  isPaused = false;
  hasStarted = false;
  hasPrefilled = false;
  numReceived = 0;
  row = -1;
  generation = -1;
  pageTable: number[] = [];
  /** End of the last planned entry, and of the last one whose result was applied. */
  numPlanned = 0;
  numComputed = 0;
  /** Pages offered to the shadow cache. */
  numPublished = 0;
  /** Steps in flight that sample a token. */
  numSampling = 0;
  lastStep = 0;
  /** Guesses in flight, behind `numPlanned`. */
  numDrafted = 0;
  /** Why it may fail: set when the simulation injects something. */
  mayFail: 'engine_failed' | 'numeric_error' | null = null;

  constructor(
    request: SimulatedRequest,
    contextLength: number,
    agingMs: number,
    now: number,
    arrival: number,
  ) {
    this.request = request;
    const isGenerating = request.kind === RequestKind.generate;
    this.maxTokens = isGenerating
      ? Math.min(request.maxTokens, contextLength - request.promptTokens.length)
      : 0;
    this.solo = soloRun(request, this.maxTokens);
    this.rank = now - request.priority * agingMs;
    this.arrival = arrival;
  }

  get isGenerating(): boolean {
    return this.request.kind === RequestKind.generate;
  }

  /** Prompt and output tokens received so far. */
  get numKnown(): number {
    return this.request.promptTokens.length + this.numReceived;
  }

  get numHistory(): number {
    return this.numKnown + this.numSampling;
  }

  /** Positions it computes at most: the last token is never fed back. */
  get limit(): number {
    return this.request.promptTokens.length + Math.max(0, this.maxTokens - 1);
  }

  /** Positions it could compute now. */
  get numRemaining(): number {
    return Math.min(this.numHistory, this.limit) - this.numPlanned;
  }

  /** Its next token is in flight, and what follows might be guessed once it is known. */
  get mayGuess(): boolean {
    return (
      this.request.drafts !== null && this.phase === 'running' && !this.isPaused && this.numSampling === 1
    );
  }

  /** The entry's result was applied: positions behind the first wrong guess are computed again, their pages go back. */
  computed({ start, count, drafts }: PlanEntry, numAccepted: number): void {
    this.numComputed = start + count - drafts.length + numAccepted;
    if (drafts.length === 0) return;
    this.numDrafted = 0;
    this.numPlanned = this.numComputed;
    this.pageTable.length = Math.ceil(this.numPlanned / Limits.pageSize);
  }

  outranks(other: TrackedRequest): boolean {
    return this.rank < other.rank || (this.rank === other.rank && this.arrival < other.arrival);
  }

  /** Prompt and output received so far. */
  history(): number[] {
    return [...this.request.promptTokens, ...this.solo.tokens.slice(0, this.numReceived)];
  }

  tokenAt(position: number): number | undefined {
    const { promptTokens } = this.request;
    return position < promptTokens.length
      ? promptTokens[position]
      : this.solo.tokens[position - promptTokens.length];
  }

  /** Both hold the same tokens, under the same salt, in their first `numPages` pages. */
  sharesPages(other: TrackedRequest, numPages: number): boolean {
    if (!this.isGenerating || !other.isGenerating || this.request.salt !== other.request.salt) return false;
    for (let position = 0; position < numPages * Limits.pageSize; position += 1) {
      const token = this.tokenAt(position);
      if (token === undefined || token !== other.tokenAt(position)) return false;
    }
    return true;
  }
}
