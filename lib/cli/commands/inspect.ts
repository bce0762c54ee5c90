import { freeMemory } from '../../engine/worker/free-memory';
import { openCheckpoint } from '../../model/checkpoint';
import type { Checkpoint, StoredTensor } from '../../model/checkpoint-types';
import type { DecoderDescription } from '../../model/families/family';
import { describeDecoder } from '../../model/families/registry';
import { estimateMemory, type TensorMemory } from '../../model/memory-estimate';
import { resolveSource } from '../../model/source/resolve-source';
import { type ComputeLayout, STORED_FORMATS } from '../../native/abi';
import { formatBytes, formatCount, formatFacts, formatTable } from '../figures';
import { Interrupt } from '../interrupt';
import { ProgressDisplay } from '../progress-display';
import { answer, answerJson, colors, note, terminalLogger } from '../terminal';

export interface InspectFlags {
  readonly tensors?: boolean;
  readonly offline?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

export interface EstimateFlags extends InspectFlags {
  /** Tokens per sequence; the model's own context without it. */
  readonly context?: number;
  /** Sequences of that length at once, 1 without it. */
  readonly concurrency?: number;
  readonly kvDtype?: 'bf16' | 'f32';
  readonly precision?: 'fast' | 'exact';
}

interface OpenedFiles {
  readonly checkpoint: Checkpoint;
  readonly decoder: DecoderDescription;
}

/** Shows what the files of a model say, without loading a weight. */
export async function inspectModel(source: string, flags: InspectFlags): Promise<number> {
  const { checkpoint, decoder } = await openFiles(source, flags);
  const report = modelReport(checkpoint, decoder);
  const tensors = flags.tensors === true ? estimate(decoder, {}).tensors : null;
  if (flags.json === true) {
    answerJson({ ...report, ...(tensors === null ? {} : { tensors }) });
    return 0;
  }
  answer(formatFacts(modelFacts(report)));
  const header = ['STORED', 'COMPUTED AS', 'TENSORS', 'WEIGHTS', 'BYTES', 'BITS'];
  answer(`\n${formatTable(header, report.formats.map(formatRow), [2, 3, 4, 5])}`);
  if (tensors !== null) {
    const tensorHeader = ['ROLE', 'SHAPE', 'STORED', 'COMPUTED AS', 'BITS'];
    answer(`\n${formatTable(tensorHeader, tensors.map(tensorRow), [4])}`);
  }
  for (const warning of report.warnings) note(`${colors.yellow('warning:')} ${warning.message}`);
  return 0;
}

/** Says how much memory a model takes, from its headers alone. */
export async function inspectEstimate(source: string, flags: EstimateFlags): Promise<number> {
  const { decoder } = await openFiles(source, flags);
  const report = estimate(decoder, flags);
  const freeBytes = freeMemory();
  if (flags.json === true) {
    const { tensors, ...figures } = report;
    answerJson({ ...figures, freeBytes });
    return 0;
  }
  const { concurrency, contextLength, totalBytes, precision, kvDtype } = report;
  const sequences = `${concurrency} x ${formatCount(contextLength)} tokens`;
  answer(
    formatFacts([
      ['weights', `${formatBytes(report.weightBytes)} (${precision})`],
      [
        'KV cache',
        `${formatBytes(report.kvBytes)}: ${sequences}, ${formatBytes(report.kvBytesPerToken)} each (${kvDtype})`,
      ],
      ['together', formatBytes(totalBytes)],
      ['free here', `${formatBytes(freeBytes)}: ${totalBytes <= freeBytes ? 'it fits' : 'it does not fit'}`],
    ]),
  );
  return 0;
}

function estimate({ spec, tensors }: DecoderDescription, flags: EstimateFlags) {
  const precision = flags.precision ?? 'fast';
  const kvDtype = flags.kvDtype ?? (precision === 'exact' ? 'f32' : 'bf16');
  const { context: contextLength = spec.contextLength, concurrency = 1 } = flags;
  const settings = { precision, kvDtype, contextLength, concurrency } as const;
  return { ...settings, ...estimateMemory({ spec, tensors, ...settings }) };
}

async function openFiles(source: string, flags: InspectFlags): Promise<OpenedFiles> {
  const interrupt = new Interrupt();
  const display = new ProgressDisplay(process.stderr);
  const { signal } = interrupt;
  try {
    const { path } = await resolveSource(source, {
      signal,
      offline: flags.offline === true,
      logger: terminalLogger(flags.verbose === true),
      onProgress: (progress) => {
        if (flags.quiet !== true) display.update({ phase: 'download', ...progress });
      },
    });
    const checkpoint = await openCheckpoint(path, { signal });
    return { checkpoint, decoder: describeDecoder(checkpoint) };
  } finally {
    display.clear();
    interrupt.stop();
  }
}

interface FormatReport {
  readonly stored: string;
  /** Null for tensors that no kernel reads. */
  readonly layout: ComputeLayout | null;
  readonly numTensors: number;
  readonly numWeights: number;
  readonly bytes: number;
}

function modelReport(checkpoint: Checkpoint, { spec, info }: DecoderDescription) {
  const [layer] = spec.layers;
  return {
    path: checkpoint.path,
    format: checkpoint.format,
    files: checkpoint.files.map(({ path, size }) => ({ path, size })),
    family: info.family,
    name: info.name,
    numParameters: info.numParameters,
    contextLength: spec.contextLength,
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
    numLayers: spec.layers.length,
    attention: layer?.attention ?? null,
    intermediateSize: layer?.mlp.intermediateSize ?? null,
    activation: layer?.mlp.activation ?? null,
    isHeadTied: spec.head?.isTied ?? false,
    tokenizer: checkpoint.tokenizer?.kind ?? null,
    hasChatTemplate: checkpoint.chatTemplates.default !== null,
    eosTokens: checkpoint.eosTokenIds,
    formats: formatReports([...checkpoint.tensors.values()]),
    warnings: [...checkpoint.warnings, ...info.warnings],
  };
}

type ModelReport = ReturnType<typeof modelReport>;

function formatReports(tensors: readonly StoredTensor[]): FormatReport[] {
  const reports = new Map<string, FormatReport>();
  for (const { typeName, format, shape, byteLength } of tensors) {
    const numWeights = shape.reduce((product, length) => product * length, 1);
    const layout = format === null ? null : STORED_FORMATS[format].computeLayout;
    const before = reports.get(typeName) ?? {
      stored: typeName,
      layout,
      numTensors: 0,
      numWeights: 0,
      bytes: 0,
    };
    reports.set(typeName, {
      ...before,
      numTensors: before.numTensors + 1,
      numWeights: before.numWeights + numWeights,
      bytes: before.bytes + byteLength,
    });
  }
  return [...reports.values()].sort((a, b) => b.bytes - a.bytes);
}

function formatRow({ stored, layout, numTensors, numWeights, bytes }: FormatReport): string[] {
  const bits = ((bytes * 8) / numWeights).toFixed(2);
  return [
    stored,
    layout ?? 'not used',
    formatCount(numTensors),
    formatCount(numWeights),
    formatCount(bytes),
    bits,
  ];
}

function tensorRow({ role, shape, storedFormat, layout, bitsPerWeight }: TensorMemory): string[] {
  return [role, shape.join(' x '), storedFormat, layout, bitsPerWeight.toFixed(2)];
}

function modelFacts(report: ModelReport): [string, string][] {
  const { attention, files } = report;
  const heads =
    attention === null
      ? 'none'
      : `${attention.numQHeads} of ${attention.headDim}, ${attention.numKvHeads} for keys and values`;
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return [
    ['name', report.name ?? 'not given'],
    ['family', `${report.family} (${report.format})`],
    ['files', `${files.length}, ${formatBytes(bytes)}: ${report.path}`],
    ['parameters', formatCount(report.numParameters)],
    ['context', `${formatCount(report.contextLength)} tokens`],
    ['vocabulary', `${formatCount(report.vocabSize)} tokens`],
    ['layers', `${report.numLayers} of width ${report.hiddenSize}`],
    ['heads', heads],
    ['MLP', `${report.activation}, width ${report.intermediateSize}`],
    ['head', report.isHeadTied ? 'the embedding' : 'its own matrix'],
    ['tokenizer', report.tokenizer ?? 'none'],
    ['chat template', report.hasChatTemplate ? 'yes' : 'none'],
    ['ends at tokens', report.eosTokens.join(', ') || 'none'],
  ];
}
