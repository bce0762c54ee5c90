/** A caller's request, unique for the life of its scheduler. */
export type RequestId = number & { readonly brand: 'RequestId' };
/** Index of one KV page, 0..numPages-1; the same number indexes the native pool. */
export type PageId = number & { readonly brand: 'PageId' };

export interface SchedulerConfig {
  readonly numPages: number;
  /** Requests that may run at once: native rows. */
  readonly maxRows: number;
  /** Token positions one step may hold. */
  readonly maxStepTokens: number;
  /** Positions of one prompt chunk while others decode. */
  readonly maxChunkTokens: number;
  /** False for encoders, whose tokens see each other: a step computes an input whole. */
  readonly splitsInputs: boolean;
  /** Tokens a sequence may reach, prompt and output together. */
  readonly contextLength: number;
  readonly maxQueuedRequests: number;
  readonly maxQueuedTokens: number;
  readonly prefixCache: boolean;
  /** A waiting request gains one priority level each time this many ms pass. */
  readonly agingMs: number;
  /** Words a plan buffer holds: bounds the histories admitted in one step. */
  readonly maxPlanWords: number;
  /** A second, smaller model that guesses for this one; null for none. */
  readonly draftModel: DraftModelConfig | null;
}

/** The rows and pages of a draft model, which are its own. */
export interface DraftModelConfig {
  readonly numPages: number;
  /** Sequences it knows at once; those guessed for the longest time ago are forgotten first. */
  readonly maxRows: number;
  readonly maxStepTokens: number;
  readonly contextLength: number;
  readonly maxPlanWords: number;
  /** Token ids below this mean the same to both models; others are neither given nor taken. */
  readonly vocabSize: number;
  /** What its step is taken to cost, in steps of this model, until that is measured. */
  readonly relativeCost: number;
}

/** A guess at the tokens that follow a sequence. */
export interface Draft {
  readonly tokens: Int32Array;
  /** 0..NUM_GRADES-1: guesses of one grade are taken to be right equally often. */
  readonly grade: number;
}

/** Guesses how one sequence goes on. */
export interface Drafter {
  /** At most `maxTokens` tokens that may follow the first `numTokens` of `tokens`, at least one, or null for no guess. */
  draft(tokens: Int32Array, numTokens: number, maxTokens: number): Draft | null;
}

export interface DraftSettings {
  /** Null for the draft model. */
  readonly drafter: Drafter | null;
  /** Guesses per step at most. */
  readonly maxTokens: number;
  /** Guesses only where that is measured to pay. */
  readonly isAdaptive: boolean;
}

export interface ScheduledRequest {
  readonly id: RequestId;
  /** 0 generate, 1 logits, 2 score, 3 pool: RequestKind in lib/native/abi.ts. */
  readonly kind: number;
  readonly promptTokens: Int32Array;
  /** New tokens wanted at most; 0 for evaluation requests. */
  readonly maxTokens: number;
  /** Higher runs first. */
  readonly priority: number;
  /** Scheduler time (ms) after which the request fails with `deadline_exceeded`; null for none. */
  readonly deadline: number | null;
  /** Requests share cached prefixes only within one salt (tenant, adapter, rope table). */
  readonly salt: string;
  /** Null for a request whose tokens are not guessed. */
  readonly drafts: DraftSettings | null;
}

/** A row was given to a request: everything native needs is written once. */
export interface PlanAdmission {
  readonly row: number;
  readonly generation: number;
  readonly id: RequestId;
  /** Prompt and, after preemption, the tokens generated so far. */
  readonly tokens: Int32Array;
}

export interface PlanEntry {
  readonly row: number;
  readonly generation: number;
  readonly id: RequestId;
  readonly start: number;
  readonly count: number;
  /** The entry reaches the end of the row's history, so one token is sampled after it. */
  readonly samples: boolean;
  /** Guessed tokens of the last positions, past the end of the history; mostly empty. */
  readonly drafts: Int32Array;
}

export interface PlanPageUpdate {
  readonly row: number;
  readonly index: number;
  readonly page: PageId;
}

export interface StepPlan {
  /** Counts the steps of one model. */
  readonly step: number;
  /** For the draft model; no other step is in flight beside it. */
  readonly isDraft: boolean;
  readonly admissions: readonly PlanAdmission[];
  readonly pageUpdates: readonly PlanPageUpdate[];
  readonly entries: readonly PlanEntry[];
}

/** One per plan entry, in order. `finish` is a Finish value of lib/native/abi.ts. */
export interface EntryResult {
  readonly row: number;
  readonly generation: number;
  /** The sampled token, or -1. */
  readonly token: number;
  /** Tokens sampled after guesses that were right, in order; mostly empty. */
  readonly further: readonly number[];
  readonly finish: number;
}

export interface StepResult {
  readonly step: number;
  readonly entries: readonly EntryResult[];
}

/** What a step or a pass meant for one request. */
export type SchedulerEvent =
  | { readonly type: 'started'; readonly id: RequestId; readonly cachedTokens: number }
  | { readonly type: 'prefilled'; readonly id: RequestId }
  /** `resultRow` indexes the step's result rows, so that log-probabilities can be looked up. */
  | { readonly type: 'token'; readonly id: RequestId; readonly token: number; readonly resultRow: number }
  /** Guesses were tried; the tokens that came of it follow. */
  | {
      readonly type: 'drafted';
      readonly id: RequestId;
      readonly numDrafted: number;
      readonly numAccepted: number;
    }
  | { readonly type: 'finished'; readonly id: RequestId; readonly reason: 'stop' | 'length' | 'evaluated' }
  | {
      readonly type: 'failed';
      readonly id: RequestId;
      readonly code: 'deadline_exceeded' | 'kv_exhausted' | 'numeric_error' | 'engine_failed';
      readonly message: string;
    }
  /** The abort took effect: rows and pages are back (pages behind the fence of the last step that could write them). */
  | { readonly type: 'aborted'; readonly id: RequestId }
  | { readonly type: 'preempted'; readonly id: RequestId };

export interface SchedulerStats {
  readonly numRunning: number;
  readonly numWaiting: number;
  readonly numQueuedTokens: number;
  readonly numFreePages: number;
  readonly numCachedPages: number;
  readonly numPages: number;
  readonly numPreemptions: number;
  readonly prefixQueryTokens: number;
  readonly prefixHitTokens: number;
  /** Tokens guessed, and how many of them were right. */
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
  readonly steps: number;
}

/**
 * The pure core: no clock, no I/O, no randomness. `now` is a field set by the caller.
 * Implemented by `Scheduler` in scheduler.ts.
 */
export interface SchedulerCore {
  /** Milliseconds of a monotonic clock, set before each call that depends on time. */
  now: number;
  /**
   * Queues a request. Throws `queue_full` (with retry hint in details), `context_length_exceeded`, or `kv_exhausted`
   * when it could never fit, by arithmetic.
   */
  add(request: ScheduledRequest): void;
  /** Legal in every state, also for unknown ids (ignored). Takes effect at once for planning. */
  abort(id: RequestId): void;
  /** The caller's stream is full: not scheduled until `resume`. Keeps its place and pages unless preempted. */
  pause(id: RequestId): void;
  resume(id: RequestId): void;
  /** Next step, or null when nothing can run now. Up to Limits.queueDepth plans may be outstanding, one draft plan alone. */
  schedule(): StepPlan | null;
  /** Results arrive in the order the plans were made. */
  apply(result: StepResult): void;
  /**
   * The step failed as a whole: its requests fail with `engine_failed`; others go on. After a step of the draft model all go
   * on, without its guesses.
   */
  applyFailure(step: number, message: string): void;
  /** Events since the last call, in order. */
  takeEvents(): SchedulerEvent[];
  /** Earliest time at which `schedule` could change its mind without other input (a deadline), or null. */
  nextWakeup(): number | null;
  stats(): SchedulerStats;
  /** Throws on a broken invariant, with the values. */
  checkInvariants(): void;
}
