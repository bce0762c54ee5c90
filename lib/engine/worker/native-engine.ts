import type { CpuDescription, EngineHandle, NativeAddon } from '../../native/addon';
import type { Gpu } from './gpu';

/** An engine of the addon, and what its kernels run on. */
export interface NativeEngine {
  readonly addon: NativeAddon;
  readonly handle: EngineHandle;
  readonly cpu: CpuDescription;
  /** What models are computed on, in the order of their layers; empty for the processor. */
  readonly gpus: readonly Gpu[];
  /** Whether every model has layers on each of them. */
  readonly usesAllGpus: boolean;
  readonly threads: number;
}
