import type { MessagePort } from 'node:worker_threads';
import { AutoglmError, reviveError } from '../../errors';
import { type ComputeLayout, Limits } from '../../native/abi';
import type { ModelHandle, NativeAddon, NativeLoadRequest, NativeStage } from '../../native/addon';
import { isBidirectional } from '../../native/decoder-spec';
import { fromNativeError } from '../../native/native-error';
import type { SchedulerConfig } from '../../scheduler/types';
import { monotonicMs } from '../clock';
import type { DecoderMessage } from '../text/types';
import type { Warning } from '../types';
import {
  type AssessedDecoder,
  assess,
  type DecoderParts,
  placedLayers,
  sizeModels,
  stageOf,
} from './model-sizing';
import type { NativeEngine } from './native-engine';
import { PackedWeights } from './packed-weights';
import { draftModelConfig, planCapacity, schedulerConfig } from './plan-capacity';
import { PlanBuffer } from './plan-writer';
import type { DraftSummary, LoadCommand, LoadSummary } from './protocol';
import { ResultBuffer } from './step-result';
import type { ModelTuning } from './tuning/model-tuning';
import { openTuning, type TunedModel } from './tuning/open-tuning';

/** Bytes of progress are told this often at most: each report is a turn of the main thread. */
const PROGRESS_INTERVAL_MS = 30;

/** A model in native memory, with the memory it shares with its scheduler. */
export interface NativeModel {
  readonly handle: ModelHandle;
  /** By slot. */
  readonly plans: readonly PlanBuffer[];
  readonly results: readonly ResultBuffer[];
  /** DecoderSpec.ropeSwitchLength. */
  readonly ropeSwitchLength: number | null;
  readonly vocabSize: number;
  readonly packedWeights: PackedWeights;
  /** Null for no tuning. */
  readonly tuning: ModelTuning | null;
  readonly warnings: readonly Warning[];
}

export interface LoadedModel {
  readonly target: NativeModel;
  readonly draft: NativeModel | null;
  readonly scheduler: SchedulerConfig;
  readonly summary: LoadSummary;
}

/** Reads the weights, and those of a draft model, into native memory. Rejects with nothing left behind. */
export async function loadModel(
  engine: NativeEngine,
  command: Pick<LoadCommand, 'path' | 'port' | 'draft' | 'settings' | 'cancel'>,
  onProgress: (loaded: number, total: number) => void,
): Promise<LoadedModel> {
  const { addon } = engine;
  const { settings } = command;
  const [decoder, draftDecoder] = await Promise.all([
    receiveDecoder(command.port),
    command.draft === null ? null : receiveDecoder(command.draft.port),
  ]);
  const { precision, kvDtype, maxStepTokens, maxChunkTokens } = settings;
  const packed = new PackedWeights(command.path, settings);
  const target = assess(decoder, packed, { precision, kvDtype, maxStepTokens });
  const draft =
    draftDecoder === null || command.draft === null
      ? null
      : assess(draftDecoder, new PackedWeights(command.draft.path, settings), {
          precision,
          kvDtype: precision === 'exact' ? 'f32' : 'bf16',
          maxStepTokens: maxChunkTokens,
        });
  const sizing = sizeModels(engine, settings, target, draft);
  const scheduler = schedulerConfig(settings, sizing, !isBidirectional(decoder.spec));
  const draftModel =
    draft === null
      ? null
      : draftModelConfig(scheduler, {
          contextLength: draft.decoder.spec.contextLength,
          vocabSize: Math.min(decoder.spec.vocabSize, draft.decoder.spec.vocabSize),
          relativeCost: draft.estimate.weightBytes / target.estimate.weightBytes,
        });
  const draftBytes = draft?.estimate.tensors.reduce((sum, { storedBytes }) => sum + storedBytes, 0) ?? 0;
  const tell = throttled(onProgress);
  let targetBytes = 0;
  const stages = sizing.stages.map(({ gpu, first }) => stageOf(engine, gpu, first));
  const native = await readWeights(engine, command, target, { ...scheduler, stages }, (loaded, total) => {
    targetBytes = total;
    tell(loaded, total + draftBytes);
  });
  // Where the tokens are drawn that it guesses.
  const draftStages = stages.slice(-1).map(({ index }) => ({ index, firstLayer: 0 }));
  try {
    const nativeDraft =
      draft === null || draftModel === null
        ? null
        : await readWeights(engine, command, draft, { ...draftModel, stages: draftStages }, (loaded, total) =>
            tell(targetBytes + (loaded / total) * draftBytes, targetBytes + draftBytes),
          );
    const summary: LoadSummary = {
      ...summarize(addon, native, target, scheduler),
      vocabSize: decoder.spec.vocabSize,
      kvBytesPerToken: target.estimate.kvBytesPerToken,
      numPages: sizing.numPages,
      gpuLayers: sizing.gpuLayers,
      layerPlacement: placedLayers(engine, decoder.spec.layers.length, sizing),
      isFromCache: target.packedWeights.isUsed,
      warnings: [...native.warnings, ...(nativeDraft?.warnings ?? [])],
      draftModel:
        nativeDraft === null || draft === null || draftModel === null
          ? null
          : summarize(addon, nativeDraft, draft, draftModel),
    };
    return { target: native, draft: nativeDraft, scheduler: { ...scheduler, draftModel }, summary };
  } catch (error) {
    await addon.closeModel(native.handle);
    throw error;
  }
}

async function readWeights(
  engine: NativeEngine,
  command: Pick<LoadCommand, 'settings' | 'cancel'>,
  { decoder, packedWeights, precision, kvDtype }: AssessedDecoder,
  config: Pick<SchedulerConfig, 'numPages' | 'maxRows' | 'maxStepTokens' | 'maxPlanWords'> & {
    /** Empty on the processor. */
    readonly stages: readonly NativeStage[];
  },
  onProgress: (loaded: number, total: number) => void,
): Promise<NativeModel> {
  const { addon } = engine;
  const { spec, files, tensors } = decoder;
  const { numPages, maxRows, maxStepTokens, stages } = config;
  const numWords = planCapacity(config);
  const plans = perSlot(() => new PlanBuffer(numWords));
  const results = perSlot(() => ResultBuffer.shared(maxRows));
  const request: NativeLoadRequest = {
    spec,
    files,
    tensors,
    packed: await packedWeights.find(decoder),
    precision,
    kvDtype,
    device: engine.gpus[0] === undefined ? null : { library: engine.gpus[0].library, stages },
    numPages,
    maxRows,
    maxStepTokens,
    plans: plans.map(({ words }) => words),
    results: results.map(({ words }) => words),
    cancel: command.cancel,
  };
  const handle = await addon.loadModel(engine.handle, request, onProgress).catch((error: unknown) => {
    throw fromNativeError(error);
  });
  packedWeights.loaded(addon.weightsOrigin(handle));
  const { layouts } = addon.modelMemory(handle);
  const tuningFolder = engine.gpus.length === 0 ? command.settings.tuningFolder : null; // it cuts work for threads
  const { tuning, warnings } = await tuningOf(engine, tuningFolder, { spec, layouts, precision, kvDtype });
  const { ropeSwitchLength, vocabSize } = spec;
  return {
    handle,
    plans,
    results,
    ropeSwitchLength,
    vocabSize,
    packedWeights,
    tuning,
    warnings: [...packedWeights.warnings, ...warnings],
  };
}

const perSlot = <T>(make: () => T): T[] => Array.from({ length: Limits.queueDepth }, make);

function summarize(
  addon: NativeAddon,
  { handle }: NativeModel,
  { decoder }: AssessedDecoder,
  { contextLength }: { readonly contextLength: number },
): DraftSummary {
  const { weightBytes, kvBytes, scratchBytes, layouts } = addon.modelMemory(handle);
  return {
    contextLength,
    numParameters: decoder.tensors.reduce((sum, { source }) => sum + elementsOf(source.shape), 0),
    weightBytes,
    kvBytes,
    scratchBytes,
    layouts: countLayouts(layouts),
  };
}

async function tuningOf(
  { cpu, threads }: NativeEngine,
  folder: string | null,
  model: TunedModel,
): Promise<{ readonly tuning: ModelTuning | null; readonly warnings: readonly Warning[] }> {
  if (folder === null) return { tuning: null, warnings: [] };
  const { tuning, warnings } = await openTuning(folder, cpu, threads, model);
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
