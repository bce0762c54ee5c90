/** What a running engine tells of itself. */

export interface TuningStats {
  /** Steps whose times were compared; 0 when earlier loads have settled everything. */
  readonly measuredSteps: number;
  /** What is settled, for steps of up to `maxPositions` tokens: threads, and work per chunk in percent of the untuned. */
  readonly choices: readonly {
    readonly maxPositions: number;
    readonly threads: number;
    readonly chunkPercent: number;
  }[];
  /** Why the choices could not be stored, as in a folder that cannot be written; null when nothing went wrong. */
  readonly storeFailure: string | null;
}

export interface ModelStats {
  readonly numRunning: number;
  readonly numWaiting: number;
  readonly numQueuedTokens: number;
  readonly numFreePages: number;
  readonly numCachedPages: number;
  readonly numPages: number;
  readonly numPreemptions: number;
  readonly prefixQueryTokens: number;
  readonly prefixHitTokens: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Tokens guessed by speculation, and how many of them were right. */
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
  readonly steps: number;
  /** Milliseconds since a step last finished; null before the first. */
  readonly lastStepAgeMs: number | null;
  /** Null with `autotune: false`. */
  readonly tuning: TuningStats | null;
  /** Loaded adapters, with the requests that use each, waiting ones included. */
  readonly adapters: readonly { readonly name: string; readonly numRequests: number }[];
}

export interface EngineStats {
  readonly threads: number;
  readonly models: Readonly<Record<string, ModelStats>>;
}
