import { availableParallelism } from 'node:os';
import { gpuLogitBytes, partBytes, splitWeightBytes } from '../../model/gpu-estimate';
import { estimateMemory, type MemoryEstimate } from '../../model/memory-estimate';
import type { KvDtype } from '../../native/abi';
import type { NativeAddon, NativeStage } from '../../native/addon';
import type { PlacedLayers } from '../device-types';
import type { DecoderMessage } from '../text/types';
import { freeMemory } from './free-memory';
import { type Gpu, gpuFreeMemory, gpuName } from './gpu';
import { sizeKvCache } from './kv-sizing';
import { type GpuSide, type LayerPlacement, placeLayers } from './layer-placement';
import type { NativeEngine } from './native-engine';
import type { PackedWeights } from './packed-weights';
import type { LoadSettings } from './protocol';

export type DecoderParts = Extract<DecoderMessage, { type: 'decoder' }>;

interface ReadingSettings {
  readonly precision: 'fast' | 'exact';
  readonly kvDtype: KvDtype;
  readonly maxStepTokens: number;
}

/** A decoder and what it will take. */
export interface AssessedDecoder extends ReadingSettings {
  readonly decoder: DecoderParts;
  readonly estimate: MemoryEstimate;
  readonly packedWeights: PackedWeights;
}

export function assess(
  decoder: DecoderParts,
  packedWeights: PackedWeights,
  settings: ReadingSettings,
): AssessedDecoder {
  const { spec, tensors } = decoder;
  const size = { contextLength: 1, concurrency: 1, threads: availableParallelism() };
  const estimate = estimateMemory({ spec, tensors, ...settings, ...size });
  return { decoder, packedWeights, ...settings, estimate };
}

/** `kvCache.memory` is the target's; a draft model's pages come on top, for as many tokens at most. */
export function sizeModels(
  engine: NativeEngine,
  settings: LoadSettings,
  target: AssessedDecoder,
  draft: AssessedDecoder | null,
): LayerPlacement {
  const { contextLength, kvMemory, maxConcurrency } = settings;
  const { spec } = target.decoder;
  const { kvBytesPerToken, kvBytesByLayer, weightBytes, scratchBytes } = target.estimate;
  const draftPerToken = draft?.estimate.kvBytesPerToken ?? 0;
  const draftKvMemory = ((kvMemory ?? 0) / kvBytesPerToken) * draftPerToken;
  const draftKvPerToken = kvMemory === null ? draftPerToken : 0;
  const wishes = { modelContextLength: spec.contextLength, contextLength, kvMemory };
  if (engine.gpus.length === 0) {
    const draftBytes = draft === null ? 0 : draft.estimate.weightBytes + draft.estimate.scratchBytes;
    const free = freeMemory() - weightBytes - scratchBytes - draftBytes - draftKvMemory;
    const sizing = sizeKvCache({
      ...wishes,
      kvBytesPerToken: kvBytesPerToken + draftKvPerToken,
      freeBytes: Math.max(0, Math.floor(free)),
    });
    return { ...sizing, gpuLayers: 0, stages: [] };
  }
  const draftBytes = draft === null ? 0 : Math.ceil(gpuBytes(draft, maxConcurrency) + draftKvMemory);
  return placeLayers({
    ...wishes,
    weights: partBytes(target.estimate, spec),
    kvBytesByLayer,
    draftKvPerToken,
    gpus: engine.gpus.map((gpu) => gpuSide(engine.addon, gpu, scratchBytes)),
    usesAllGpus: engine.usesAllGpus,
    lastBytes: gpuLogitBytes(spec, maxConcurrency) + draftBytes,
    host: { free: freeMemory(), scratch: scratchBytes, loadingBytes: weightBytes },
    gpuLayers: settings.gpuLayers,
  });
}

/** A GPU that no placement comes to is not asked: that would open it, which takes memory there. */
function gpuSide(addon: NativeAddon, gpu: Gpu, scratch: number): GpuSide {
  let free: number | null = null;
  return {
    name: gpuName(gpu),
    scratch,
    get free() {
      free ??= Math.floor(gpuFreeMemory(addon, gpu));
      return free;
    },
  };
}

/** Of a model with all of its layers on one GPU, but for its KV cache. */
function gpuBytes({ decoder: { spec }, estimate }: AssessedDecoder, maxConcurrency: number): number {
  const { gpu } = splitWeightBytes(partBytes(estimate, spec), spec.layers.length);
  return gpu + estimate.scratchBytes + gpuLogitBytes(spec, maxConcurrency);
}

export function stageOf({ gpus }: NativeEngine, gpu: number, firstLayer: number): NativeStage {
  return { index: (gpus[gpu] as Gpu).description.index, firstLayer };
}

export function placedLayers(
  { gpus }: NativeEngine,
  numLayers: number,
  { gpuLayers, stages }: LayerPlacement,
): readonly PlacedLayers[] {
  const onGpus = stages.map(
    ({ gpu, first, end }): PlacedLayers => ({
      device: gpuName(gpus[gpu] as Gpu),
      firstLayer: first,
      numLayers: end - first,
    }),
  );
  if (gpuLayers === numLayers) return onGpus;
  return [{ device: 'cpu', firstLayer: 0, numLayers: numLayers - gpuLayers }, ...onGpus];
}
