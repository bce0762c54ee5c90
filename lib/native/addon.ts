import type { ComputeLayout, KvDtype, StoredFormat } from './abi';
import type { DecoderSpec, WeightSource } from './decoder-spec';

/** What the processor offers and which kernels run on it. */
export interface CpuDescription {
  /** Instruction set the kernels use, e.g. `avx2`. */
  readonly isa: string;
  /** Every instruction set this processor could use, best first. */
  readonly supported: readonly string[];
  /** Processors this process may use: affinity mask and cgroup quota considered. */
  readonly numCores: number;
  readonly model: string;
}

/** A GPU as the driver describes it. */
export interface GpuDescription {
  /** The driver's own number. */
  readonly index: number;
  readonly name: string;
  readonly uuid: string;
  /** 10 * major + minor. */
  readonly computeCapability: number;
  readonly totalBytes: number;
  readonly numMultiprocessors: number;
  /** There are kernels for it. */
  readonly isSupported: boolean;
}

/** What the CUDA driver offers here, or what is missing. */
export interface DriverReport {
  readonly status:
    | 'ready'
    | 'library_missing'
    | 'driver_too_old'
    | 'library_incomplete'
    | 'initialization_failed'
    | 'no_device'
    | 'no_supported_device';
  /** Empty when ready. */
  readonly problem: string;
  readonly remedy: string;
  readonly library: string;
  /** 1000 * major + 10 * minor; 0 where it could not be asked. */
  readonly driverVersion: number;
  readonly devices: readonly GpuDescription[];
}

/** Where a model is computed. */
export interface NativeDevice {
  /** The driver's name or path; null for the usual one. */
  readonly library: string | null;
  /** At least one, in the order of the layers, on different devices. Layers before the first are the processor's. */
  readonly stages: readonly NativeStage[];
}

/** The layers of one device: from `firstLayer`, 0..layers-1, up to those of the next stage. */
export interface NativeStage {
  readonly index: number;
  readonly firstLayer: number;
}

export interface NativeTensor {
  /** Role in the decoder, e.g. `layers.0.attention.q`; the list is in decoder-spec.ts. */
  readonly role: string;
  readonly source: WeightSource;
}

export interface NativeFile {
  readonly path: string;
  /** Size and modification time (ms) when the header was parsed; a difference is `model_file_changed`. */
  readonly size: number;
  readonly mtimeMs: number;
}

/** Packed weights that an earlier load of the model has saved. */
export interface NativePackedFile {
  readonly path: string;
  /** Of the first section; a multiple of 64 KiB, so of every system's page size. */
  readonly offset: number;
  readonly byteLength: number;
  /** The last section may be shorter. */
  readonly sectionBytes: number;
  /** XXH64 of each section, low word first. */
  readonly checksums: Int32Array;
  /** WeightsOrigin.sample of the load that packed them. */
  readonly sample: string;
  /** Mapped read-only and shared with other processes, instead of copied. */
  readonly isShared: boolean;
}

/** Where a model's packed weights came from. */
export interface WeightsOrigin {
  readonly isPackedFile: boolean;
  /** Why NativeLoadRequest.packed was of no use; null when it was, or was not given. */
  readonly refusal: string | null;
  /** 16 hexadecimal digits: a hash over samples of every tensor in the model's files. */
  readonly sample: string;
  /** Processor time that packing took, of all threads, without the system's share; 0 from a packed file. */
  readonly packMs: number;
}

export interface NativeSaveRequest {
  /** An existing file. */
  readonly path: string;
  readonly offset: number;
  readonly sectionBytes: number;
  /** One word: 0 leaves nine tenths of a core to others, 1 hurries, 2 stops soon with `aborted`. */
  readonly pace: Int32Array;
}

export interface NativeLoadRequest {
  readonly spec: DecoderSpec;
  readonly files: readonly NativeFile[];
  readonly tensors: readonly NativeTensor[];
  /** Used when its bytes are whole and come from these files; null for none. */
  readonly packed: NativePackedFile | null;
  readonly precision: 'fast' | 'exact';
  readonly kvDtype: KvDtype;
  /** The GPUs; null for the processor. */
  readonly device: NativeDevice | null;
  readonly numPages: number;
  /** Requests that run at once, 1..1024. */
  readonly maxRows: number;
  /** Token positions one step may hold, at least 16. */
  readonly maxStepTokens: number;
  /** Limits.queueDepth plans and results, each over its own SharedArrayBuffer; layout in base/step_records.def. */
  readonly plans: readonly Int32Array[];
  readonly results: readonly Int32Array[];
  /** One word; the loading thread stops with `aborted` soon after it becomes non-zero. */
  readonly cancel: Int32Array;
}

export interface NativeModelMemory {
  readonly weightBytes: number;
  readonly kvBytes: number;
  readonly scratchBytes: number;
  /** What each weight tensor became, by role. */
  readonly layouts: Readonly<Record<string, ComputeLayout>>;
}

/** One addition to a product of one layer: y[firstColumn + i] += scale * (B (A x))[i]. */
export interface NativeAdapterPart {
  readonly layer: number;
  /** q, k and v lie side by side in the output of `qkv`, gate and up in that of `gateUp` (up alone without gate). */
  readonly product: 'qkv' | 'o' | 'gateUp' | 'down';
  readonly firstColumn: number;
  readonly scale: number;
  /** [rank, in], rank up to 256. */
  readonly a: WeightSource;
  /** [columns, rank] */
  readonly b: WeightSource;
}

export interface NativeAdapterRequest {
  readonly files: readonly NativeFile[];
  readonly parts: readonly NativeAdapterPart[];
  /** As in NativeLoadRequest. */
  readonly cancel: Int32Array;
}

export interface NativeAdapter {
  /** What `Admission.adapter` of step plans names; never given out twice by one engine. */
  readonly id: number;
  readonly bytes: number;
}

/** Opaque generation-numbered handles: a late call on a closed one throws `engine_closed`. */
export type EngineHandle = number & { readonly brand: 'EngineHandle' };
export type ModelHandle = number & { readonly brand: 'ModelHandle' };

/**
 * The addon's typed surface. Nothing here blocks: loading, closing and steps run on native threads.
 * Errors thrown or rejected carry a `code` from native/base/error_codes.def.
 */
export interface NativeAddon {
  readonly abiVersion: number;
  /** `isa` forces one (the OPEN_AUTOGLM_ISA setting); unknown or unsupported names throw `invalid_parameter`. */
  describeCpu(isa: string | null): CpuDescription;
  /** Only in binaries with CUDA code. Never throws for what is not there. `library` as in NativeDevice. */
  describeGpus?(library: string | null): DriverReport;
  /** Only in binaries with CUDA code. Throws `invalid_parameter` for a GPU that cannot be used, and `device_lost`. */
  gpuMemory?(
    index: number,
    library: string | null,
  ): { readonly freeBytes: number; readonly totalBytes: number };
  /**
   * Starts the engine thread and its compute pool. `onStep` is called once per finished step, for the whole batch, in the
   * order of the steps; `slot` is the plan's and result's index. Steps that finished while nobody waited for them are told
   * together: `hasMore` says that the next one's call follows.
   */
  createEngine(
    options: { readonly threads: number; readonly isa: string | null },
    onStep: (model: ModelHandle, slot: number, hasMore: boolean) => void,
  ): EngineHandle;
  /** Finishes or drops queued steps, joins the threads, frees every model. A second call resolves at once. */
  closeEngine(engine: EngineHandle): Promise<void>;
  /** Reads and repacks the weights on native threads; `onProgress` counts bytes read from the files. */
  loadModel(
    engine: EngineHandle,
    request: NativeLoadRequest,
    onProgress: (loadedBytes: number, totalBytes: number) => void,
  ): Promise<ModelHandle>;
  modelMemory(model: ModelHandle): NativeModelMemory;
  weightsOrigin(model: ModelHandle): WeightsOrigin;
  /**
   * Writes the packed weights on a native thread of its own; resolves to NativePackedFile.checksums.
   * Rejects with `invalid_model_file` when the device refuses, `aborted`, and `engine_closed` when the model is closed.
   */
  saveWeights(model: ModelHandle, request: NativeSaveRequest): Promise<Int32Array>;
  /** Frees the model once its running step has ended. A second call resolves at once. */
  closeModel(model: ModelHandle): Promise<void>;
  /** Reads a low-rank adapter on a native thread; steps go on meanwhile. */
  loadAdapter(model: ModelHandle, request: NativeAdapterRequest): Promise<NativeAdapter>;
  /** Frees the adapter behind the steps that are queued. No later plan may name it. */
  unloadAdapter(model: ModelHandle, adapter: number): Promise<void>;
  /** Buffer for an evaluation request: logits [numPositions * vocabSize] score [numTokens - 1] or pool [pooled size]. Null forgets it. */
  setOutput(model: ModelHandle, outputId: number, buffer: Float32Array | null): void;
  /** Queues the plan in `slot`, 0..Limits.queueDepth-1. A slot whose step has not been told throws `invalid_parameter`. */
  submitStep(model: ModelHandle, slot: number): void;
  /** What went wrong with the last step in `slot` that failed, at most 1 KiB; empty without one. */
  stepFailure(model: ModelHandle, slot: number): string;
}

export type { ComputeLayout, KvDtype, StoredFormat };
