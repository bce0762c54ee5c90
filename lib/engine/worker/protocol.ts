import type { MessagePort } from 'node:worker_threads';
import type { SerializedError } from '../../errors';
import type { ComputeLayout, KvDtype } from '../../native/abi';
import type { NativeAdapter, NativeAdapterRequest } from '../../native/addon';
import type { BinaryVariant } from '../../native/loader';
import type { PlacedLayers } from '../device-types';
import type { ModelStats } from '../stats-types';
import type { BinaryInfo, LogRecord, Warning } from '../types';

/** What the engine worker is started with. */
export interface EngineWorkerData {
  readonly device: DeviceSettings;
  /** Null lets the worker take the processors this process may use. */
  readonly threads: number | null;
}

export interface DeviceSettings {
  readonly variant: BinaryVariant;
  /** The driver's numbers, each of which gets layers; null for as many GPUs as a model needs. Of no meaning for `cpu`. */
  readonly gpuIndices: readonly number[] | null;
}

/** Sampling settings with every default filled in. */
export interface SamplingSettings {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 0..2^53-1. */
  readonly seed: number;
}

/** How a request's tokens are guessed, defaults filled in. */
export interface SpeculationSettings {
  readonly mode: 'prompt-lookup' | 'draft-model';
  readonly maxTokens: number;
  readonly isAdaptive: boolean;
}

/** What native needs to know of a request once, at its admission. */
export interface RequestSettings {
  /** RequestKind in lib/native/abi.ts. */
  readonly kind: number;
  readonly maxTokens: number;
  readonly sampling: SamplingSettings;
  /** Alternatives wanted per token; -1 for no log-probabilities at all. */
  readonly numLogprobs: number;
  readonly stopTokens: Int32Array;
  readonly biasTokens: Int32Array;
  readonly biasValues: Float32Array;
  /** Ascending and without repeats; only for `logits`. */
  readonly positions: Int32Array;
  /** Pooling in lib/native/abi.ts; only for `pool`. */
  readonly pooling: number;
  /** Tokens from this index on have token type 1; 0 for none. */
  readonly secondSegment: number;
  /** For the scheduler; native is told its guesses step by step. Null for none. */
  readonly speculation: SpeculationSettings | null;
}

/** A request as it crosses from the main thread. `id` is unique within its model. */
export interface RequestMessage {
  readonly id: number;
  readonly tokens: Int32Array;
  readonly settings: RequestSettings;
  readonly priority: number;
  /** On the clock of `monotonicMs`; null for none. */
  readonly deadline: number | null;
  readonly salt: string;
  /** The number native gave the adapter; 0 for none. */
  readonly adapter: number;
  /** Tokens the reader is ready to take before it has to ask for more. */
  readonly credit: number;
  /** Floats the evaluation writes; 0 for `generate`. */
  readonly outputLength: number;
}

/** Load options after validation, defaults filled in; null where the default depends on the checkpoint or the memory. */
export interface LoadSettings {
  readonly contextLength: number | null;
  readonly kvDtype: KvDtype;
  readonly kvMemory: number | null;
  readonly prefixCache: boolean;
  readonly precision: 'fast' | 'exact';
  readonly maxConcurrency: number;
  readonly maxQueuedRequests: number;
  readonly maxStepTokens: number;
  readonly maxChunkTokens: number;
  /** How many of the last layers GPUs compute; null for as many as fit, and on the processor. */
  readonly gpuLayers: number | null;
  /** Where tuning results are kept; null for no tuning. */
  readonly tuningFolder: string | null;
  /** Null for none. */
  readonly weightCache: WeightCacheSettings | null;
}

export interface WeightCacheSettings {
  readonly maxBytes: number;
  readonly isShared: boolean;
  readonly write: 'auto' | 'always' | 'never';
}

/** What loading found out, for ModelInfo. */
export interface LoadSummary {
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly numParameters: number;
  readonly weightBytes: number;
  readonly kvBytes: number;
  readonly kvBytesPerToken: number;
  readonly scratchBytes: number;
  readonly numPages: number;
  /** How many of the last layers GPUs compute. */
  readonly gpuLayers: number;
  readonly layerPlacement: readonly PlacedLayers[];
  readonly layouts: Readonly<Partial<Record<ComputeLayout, number>>>;
  /** The packed weights came from the cache. */
  readonly isFromCache: boolean;
  readonly warnings: readonly Warning[];
  /** Of the draft model; null where there is none. */
  readonly draftModel: DraftSummary | null;
}

export type DraftSummary = Pick<
  LoadSummary,
  'contextLength' | 'numParameters' | 'weightBytes' | 'kvBytes' | 'scratchBytes' | 'layouts'
>;

export type LoadCommand = Extract<EngineCommand, { type: 'load' }>;

export type EngineCommand =
  /** The text worker has already put the checkpoint's spec and weights on the other end of `port`. */
  | {
      readonly type: 'load';
      readonly model: number;
      /** File or directory of the checkpoint. */
      readonly path: string;
      readonly port: MessagePort;
      /** The same of a draft model; null for none. */
      readonly draft: { readonly path: string; readonly port: MessagePort } | null;
      readonly settings: LoadSettings;
      readonly cancel: Int32Array;
    }
  | { readonly type: 'add'; readonly model: number; readonly request: RequestMessage }
  | { readonly type: 'abort'; readonly model: number; readonly id: number }
  /** The reader takes tokens up to this total. */
  | { readonly type: 'credit'; readonly model: number; readonly id: number; readonly credit: number }
  | { readonly type: 'stats'; readonly call: number; readonly model: number }
  | {
      readonly type: 'loadAdapter';
      readonly call: number;
      readonly model: number;
      readonly request: NativeAdapterRequest;
    }
  /** Answered when no request uses the adapter any more and its memory is free. */
  | {
      readonly type: 'unloadAdapter';
      readonly call: number;
      readonly model: number;
      readonly adapter: number;
    }
  | { readonly type: 'closeModel'; readonly call: number; readonly model: number }
  | { readonly type: 'close'; readonly call: number };

/** What the worker knows of a model's load; the main thread knows the adapters' names. */
export interface RunnerStats extends Omit<ModelStats, 'adapters'> {
  /** Requests by adapter number, of those adapters that have any. */
  readonly adapterRequests: ReadonlyMap<number, number>;
}

/** The answer to each command that has one. */
export interface EngineAnswers {
  readonly stats: RunnerStats;
  readonly loadAdapter: NativeAdapter;
  readonly unloadAdapter: null;
  readonly closeModel: null;
  readonly close: null;
}

/** What one step, or one pass over the commands, meant for the requests of a model: one message for all of them. */
export interface DeltaMessage {
  readonly type: 'deltas';
  readonly model: number;
  /** When it happened, on the clock of `monotonicMs`. */
  readonly at: number;
  /** Records of deltas.ts, back to back. */
  readonly words: Int32Array;
  /** Log-probabilities, in the order in which the records mention them. */
  readonly logprobs: Float32Array;
  readonly failures: readonly { readonly id: number; readonly error: SerializedError }[];
  readonly outputs: readonly { readonly id: number; readonly values: Float32Array }[];
}

export type EngineReport =
  | {
      readonly type: 'started';
      readonly binary: BinaryInfo;
      readonly threads: number;
      /** Processors this process may use. */
      readonly numCores: number;
    }
  | { readonly type: 'startFailed'; readonly error: SerializedError }
  | { readonly type: 'loadProgress'; readonly model: number; readonly loaded: number; readonly total: number }
  | { readonly type: 'loaded'; readonly model: number; readonly summary: LoadSummary }
  | { readonly type: 'loadFailed'; readonly model: number; readonly error: SerializedError }
  | { readonly type: 'log'; readonly record: LogRecord }
  | { readonly type: 'answer'; readonly call: number; readonly value: EngineAnswers[keyof EngineAnswers] }
  | { readonly type: 'refusal'; readonly call: number; readonly error: SerializedError }
  | DeltaMessage;
