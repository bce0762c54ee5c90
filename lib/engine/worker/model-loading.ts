import { availableParallelism } from 'node:os';
import type { MessagePort } from 'node:worker_threads';
import { AutoglmError, reviveError } from '../../errors';
import { estimateMemory } from '../../model/memory-estimate';
import type { ComputeLayout } from '../../native/abi';
import type { CpuDescription, EngineHandle, ModelHandle, NativeAddon } from '../../native/addon';
import { isBidirectional } from '../../native/decoder-spec';
import { fromNativeError } from '../../native/native-error';
import { monotonicMs } from '../clock';
import type { DecoderMessage } from '../text/types';
import type { Warning } from '../types';
import { freeMemory } from './free-memory';
import { sizeKvCache } from './kv-sizing';
import { PackedWeights } from './packed-weights';
import { planCapacity, schedulerConfig } from './plan-capacity';
import { PlanBuffer } from './plan-writer';
import type { LoadCommand, LoadSettings, LoadSummary } from './protocol';
import { ResultBuffer } from './step-result';
import type { ModelTuning } from './tuning/model-tuning';
import { openTuning, type TunedModel } from './tuning/open-tuning';

type DecoderParts = Extract<DecoderMessage, { type: 'decoder' }>;

/** Bytes of progress are told this often at most: each report is a turn of the main thread. */
const PROGRESS_INTERVAL_MS = 30;

export interface LoadedModel {
  readonly handle: ModelHandle;
  readonly plans: readonly [PlanBuffer, PlanBuffer];
  readonly results: readonly [ResultBuffer, ResultBuffer];
  readonly scheduler: ReturnType<typeof schedulerConfig>;
  /** DecoderSpec.ropeSwitchLength. */
  readonly ropeSwitchLength: number | null;
  readonly summary: LoadSummary;
  readonly packedWeights: PackedWeights;
  /** Null for no tuning. */
  readonly tuning: ModelTuning | null;
}

/** An engine of the addon, and what its kernels run on. */
export interface NativeEngine {
  readonly addon: NativeAddon;
  readonly handle: EngineHandle;
  readonly cpu: CpuDescription;
  readonly threads: number;
}

/** Reads the weights into native memory. Rejects with nothing left behind. */
export async function loadModel(
  engine: NativeEngine,
  { path, port, settings, cancel }: Pick<LoadCommand, 'path' | 'port' | 'settings' | 'cancel'>,
  onProgress: (loaded: number, total: number) => void,
): Promise<LoadedModel> {
  const { addon } = engine;
  const decoder = await receiveDecoder(port);
  const { spec, files, tensors } = decoder;
  const { precision, kvDtype, maxStepTokens } = settings;
  const size = { contextLength: 1, concurrency: 1, maxStepTokens, threads: availableParallelism() };
  const estimate = estimateMemory({ spec, tensors, precision, kvDtype, ...size });
  const sizing = sizeKvCache({
    modelContextLength: spec.contextLength,
    contextLength: settings.contextLength,
    kvMemory: settings.kvMemory,
    kvBytesPerToken: estimate.kvBytesPerToken,
    freeBytes: Math.max(0, freeMemory() - estimate.weightBytes - estimate.scratchBytes),
  });
  const scheduler = schedulerConfig(settings, sizing, !isBidirectional(spec));
  const numWords = planCapacity(scheduler);
  const plans = [new PlanBuffer(numWords), new PlanBuffer(numWords)] as const;
  const results = [ResultBuffer.shared(scheduler.maxRows), ResultBuffer.shared(scheduler.maxRows)] as const;
  const packedWeights = new PackedWeights(path, settings);
  const packed = await packedWeights.find(decoder);
  const handle = await addon
    .loadModel(
      engine.handle,
      {
        spec,
        files,
        tensors,
        packed,
        precision,
        kvDtype,
        numPages: sizing.numPages,
        maxRows: scheduler.maxRows,
        maxStepTokens: scheduler.maxStepTokens,
        plans: [plans[0].words, plans[1].words],
        results: [results[0].words, results[1].words],
        cancel,
      },
      throttled(onProgress),
    )
    .catch((error: unknown) => {
      throw fromNativeError(error);
    });
  const memory = addon.modelMemory(handle);
  packedWeights.loaded(addon.weightsOrigin(handle));
  const { tuning, warnings } = await tuningOf(engine, settings, { spec, ...memory });
  const summary: LoadSummary = {
    contextLength: sizing.contextLength,
    vocabSize: spec.vocabSize,
    numParameters: tensors.reduce((sum, { source }) => sum + elementsOf(source.shape), 0),
    weightBytes: memory.weightBytes,
    kvBytes: memory.kvBytes,
    kvBytesPerToken: estimate.kvBytesPerToken,
    scratchBytes: memory.scratchBytes,
    numPages: sizing.numPages,
    layouts: countLayouts(memory.layouts),
    isFromCache: packedWeights.isUsed,
    warnings: [...packedWeights.warnings, ...warnings],
  };
  const { ropeSwitchLength } = spec;
  return { handle, plans, results, scheduler, ropeSwitchLength, summary, packedWeights, tuning };
}

async function tuningOf(
  { cpu, threads }: NativeEngine,
  { tuningFolder, precision, kvDtype }: LoadSettings,
  { spec, layouts }: Pick<TunedModel, 'spec' | 'layouts'>,
): Promise<{ readonly tuning: ModelTuning | null; readonly warnings: readonly Warning[] }> {
  if (tuningFolder === null) return { tuning: null, warnings: [] };
  const { tuning, warnings } = await openTuning(tuningFolder, cpu, threads, {
    spec,
    layouts,
    precision,
    kvDtype,
  });
  return { tuning, warnings: warnings.map((message) => ({ code: 'tuning_ignored', message })) };
}

/** The text worker posts one message and closes its end, so a close without a message means that it died. */
function receiveDecoder(port: MessagePort): Promise<DecoderParts> {
  return new Promise((resolve, reject) => {
    port.once('message', (message: DecoderMessage) => {
      port.close();
      if (message.type === 'failed') reject(reviveError(message.error));
      else resolve(message);
    });
    port.once('close', () => {
      reject(new AutoglmError('engine_failed', 'the text worker went away before it sent the model'));
    });
  });
}

const elementsOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

function countLayouts(
  layouts: Readonly<Record<string, ComputeLayout>>,
): Partial<Record<ComputeLayout, number>> {
  const counts: Partial<Record<ComputeLayout, number>> = {};
  for (const layout of Object.values(layouts)) counts[layout] = (counts[layout] ?? 0) + 1;
  return counts;
}

function throttled(
  onProgress: (loaded: number, total: number) => void,
): (loaded: number, total: number) => void {
  let toldAt = Number.NEGATIVE_INFINITY;
  return (loaded, total) => {
    const now = monotonicMs();
    if (now - toldAt < PROGRESS_INTERVAL_MS && loaded < total) return;
    toldAt = now;
    onProgress(loaded, total);
  };
}
