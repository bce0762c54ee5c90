/** What loading takes and tells, and what can be loaded into a model. */

import type { KvDtype } from '../native/abi';

export type LoadPhase = 'resolve' | 'download' | 'parse' | 'weights' | 'ready';
export interface LoadProgress {
  readonly phase: LoadPhase;
  /** Bytes done and expected in this phase; total is null while unknown. */
  readonly loaded: number;
  readonly total: number | null;
  readonly file?: string;
  readonly bytesPerSecond?: number;
}

export interface KvCacheOptions {
  /**
   * Default bf16, and f32 with `precision: 'exact'`. int8 and fp8 (e4m3) take half of bf16's memory, with a scale for each
   * token and KV head; models with latent attention (MLA) refuse them with `invalid_parameter`, and so does the processor
   * fp8. A GPU refuses f32 with `unsupported_model`.
   */
  readonly dtype?: KvDtype;
  /** Bytes, or text such as "512MiB", "8GiB". Default: four sequences of the context, at most half of free memory. */
  readonly memory?: number | string;
  readonly prefixCache?: boolean;
}

/** Packed weights kept on disk, so that the next load only copies them. */
export interface WeightCacheOptions {
  /** Bytes that all packed weights of this user may take together, or text such as "8GiB". Default 32 GiB. */
  readonly maxBytes?: number | string;
  /**
   * Maps the file read-only instead of copying it: processes share one copy, but without huge pages, and a file cut short
   * by hand ends the process. Default false.
   */
  readonly share?: boolean;
  /** `auto`: when packing took long enough for it to pay. `never` still uses what is there. Default `auto`. */
  readonly write?: 'auto' | 'always' | 'never';
}

export interface LoadAdapterOptions {
  /** A directory that PEFT has saved, a GGUF adapter, or an `hf:`, `modelscope:` or `https:` source of one. */
  readonly source: string;
  /** What requests call it: 1..64 letters, digits, `.`, `_` and `-`. Default: the last part of the source. */
  readonly name?: string;
  /** Multiplies what the adapter adds, beside its own alpha / rank. [-100, 100], default 1. */
  readonly scale?: number;
  /** Forbids the network; also set by HF_HUB_OFFLINE=1. */
  readonly offline?: boolean;
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal;
}

export interface AdapterInfo {
  readonly name: string;
  readonly source: string;
  readonly format: 'peft' | 'gguf';
  /** The base model that the adapter's file names; null where it names none. Nothing checks it. */
  readonly baseModel: string | null;
  /** The largest of its matrices. */
  readonly rank: number;
  readonly scale: number;
  /** Memory it takes. */
  readonly bytes: number;
}

/** A low-rank adapter (LoRA) of a loaded model. */
export interface Adapter extends AsyncDisposable {
  readonly name: string;
  readonly info: AdapterInfo;
  /**
   * Refuses new requests at once, lets those that use the adapter end, then frees it and its name. Resolves when that is
   * done. A second call waits for the same end.
   */
  close(): Promise<void>;
}
