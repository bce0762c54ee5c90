import { AutoglmError } from '../errors';
import type { Checkpoint, StoredTensor } from '../model/checkpoint-types';
import type { ModelDescription } from '../model/families/pooled-output';
import { describeDecoder } from '../model/families/registry';
import { estimateMemory, type MemoryEstimate } from '../model/memory-estimate';
import { type ComputeLayout, type KvDtype, STORED_FORMATS, type StoredFormat } from '../native/abi';
import { Tokenizer } from '../tokenizer/tokenizer';
import { specInWords } from './spec-words';

/** Something about a checkpoint that will not work, and why. */
export interface Problem {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

export interface FormatReport {
  readonly stored: string;
  /** Null for tensors that no kernel reads. */
  readonly layout: ComputeLayout | null;
  readonly numTensors: number;
  readonly numWeights: number;
  readonly bytes: number;
}

/** Tensors that are stored alike and become the same. */
export interface ConversionReport {
  readonly stored: StoredFormat;
  readonly layout: ComputeLayout;
  readonly numTensors: number;
  readonly numWeights: number;
  readonly storedBytes: number;
  readonly bytes: number;
}

export interface MemorySettings {
  readonly precision: 'fast' | 'exact';
  readonly kvDtype: KvDtype;
}

/** Everything that can be said without reading a weight. Where the model cannot run, what its files say remains. */
export function modelReport(checkpoint: Checkpoint, settings: MemorySettings) {
  const described = attempt(() => describeDecoder(checkpoint));
  const { value: model } = described;
  const problems = [...described.problems, ...tokenizerProblems(checkpoint, model)];
  return {
    path: checkpoint.path,
    format: checkpoint.format,
    files: checkpoint.files.map(({ path, size }) => ({ path, size })),
    declared: declaredFamily(checkpoint),
    tokenizer: checkpoint.tokenizer?.kind ?? null,
    hasChatTemplate: checkpoint.chatTemplates.default !== null,
    eosTokens: checkpoint.eosTokenIds,
    formats: formatReports([...checkpoint.tensors.values()]),
    ...(model === null ? NOT_DESCRIBED : descriptionReport(model, settings)),
    warnings: [...checkpoint.warnings, ...(model?.info.warnings ?? [])],
    problems,
  };
}

export type ModelReport = ReturnType<typeof modelReport>;

const NOT_DESCRIBED = {
  family: null,
  name: null,
  numParameters: null,
  contextLength: null,
  vocabSize: null,
  hiddenSize: null,
  numLayers: null,
  spec: null,
  memory: null,
} as const;

function descriptionReport({ spec, tensors, info }: ModelDescription, settings: MemorySettings) {
  const size = {
    contextLength: spec.contextLength,
    concurrency: 1,
    maxStepTokens: DEFAULT_STEP_TOKENS,
    threads: 1,
  };
  const estimate = estimateMemory({ spec, tensors, ...settings, ...size });
  return {
    family: info.family,
    name: info.name,
    numParameters: info.numParameters,
    contextLength: spec.contextLength,
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
    numLayers: spec.layers.length,
    spec: specInWords(spec),
    memory: {
      ...settings,
      storedBytes: estimate.tensors.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      weightBytes: estimate.weightBytes,
      bitsPerWeight: (estimate.weightBytes * 8) / info.numParameters,
      kvBytesPerToken: estimate.kvBytesPerToken,
      conversions: conversions(estimate),
    },
  };
}

/** LoadModelOptions.maxStepTokens when nothing is said. */
export const DEFAULT_STEP_TOKENS = 512;

/** What the file itself says that it is, known or not. */
function declaredFamily({ config }: Checkpoint): string | null {
  if (config.kind === 'gguf') return config.architecture;
  const architecture = attempt(() => config.values.strings('architectures')?.[0] ?? null).value;
  return architecture ?? attempt(() => config.values.string('model_type')).value;
}

/** A model without a usable tokenizer still runs on token ids. */
function tokenizerProblems({ tokenizer }: Checkpoint, model: ModelDescription | null): readonly Problem[] {
  if (tokenizer === null) {
    const message = 'the checkpoint has no tokenizer: only token ids can be given and returned';
    return [{ code: 'no_tokenizer', message, hint: null }];
  }
  if (model === null) return [];
  const { vocabSize, contextLength } = model.spec;
  return attempt(() => new Tokenizer(tokenizer, { vocabSize, contextLength })).problems;
}

/** Runs what may find the checkpoint at fault: the fault becomes a problem, anything else rises. */
function attempt<T>(body: () => T): { readonly value: T | null; readonly problems: readonly Problem[] } {
  try {
    return { value: body(), problems: [] };
  } catch (error) {
    if (!(error instanceof AutoglmError)) throw error;
    const { code, message, hint = null } = error;
    return { value: null, problems: [{ code, message, hint }] };
  }
}

function formatReports(tensors: readonly StoredTensor[]): FormatReport[] {
  const reports = new Map<string, FormatReport>();
  for (const { typeName, format, shape, byteLength } of tensors) {
    const before = reports.get(typeName);
    reports.set(typeName, {
      stored: typeName,
      layout: format === null ? null : STORED_FORMATS[format].computeLayout,
      numTensors: (before?.numTensors ?? 0) + 1,
      numWeights: (before?.numWeights ?? 0) + numWeightsOf(shape),
      bytes: (before?.bytes ?? 0) + byteLength,
    });
  }
  return [...reports.values()].sort((a, b) => b.bytes - a.bytes);
}

function conversions({ tensors }: MemoryEstimate): ConversionReport[] {
  const reports = new Map<string, ConversionReport>();
  for (const { storedFormat, layout, shape, storedBytes, bytes } of tensors) {
    const before = reports.get(`${storedFormat} ${layout}`);
    reports.set(`${storedFormat} ${layout}`, {
      stored: storedFormat,
      layout,
      numTensors: (before?.numTensors ?? 0) + 1,
      numWeights: (before?.numWeights ?? 0) + numWeightsOf(shape),
      storedBytes: (before?.storedBytes ?? 0) + storedBytes,
      bytes: (before?.bytes ?? 0) + bytes,
    });
  }
  return [...reports.values()].sort((a, b) => b.bytes - a.bytes);
}

const numWeightsOf = (shape: readonly number[]): number =>
  shape.reduce((product, length) => product * length, 1);
