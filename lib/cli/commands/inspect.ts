import { availableParallelism } from 'node:os';
import { freeMemory } from '../../engine/worker/free-memory';
import { openCheckpoint } from '../../model/checkpoint';
import type { Checkpoint } from '../../model/checkpoint-types';
import type { DecoderDescription } from '../../model/families/family';
import { describeDecoder } from '../../model/families/registry';
import { estimateMemory, type TensorMemory } from '../../model/memory-estimate';
import { resolveSource } from '../../model/source/resolve-source';
import type { KvDtype } from '../../native/abi';
import { formatBytes, formatCount, formatFacts, formatTable } from '../figures';
import { Interrupt } from '../interrupt';
import {
  type ConversionReport,
  DEFAULT_STEP_TOKENS,
  type FormatReport,
  type ModelReport,
  modelReport,
} from '../model-report';
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
  readonly kvDtype?: KvDtype;
  readonly precision?: 'fast' | 'exact';
}

/**
 * Shows what the files of a model say and what would become of it, without loading a weight. A model that cannot run is
 * shown as far as it is understood, with the reason.
 */
export async function inspectModel(source: string, flags: InspectFlags): Promise<number> {
  const checkpoint = await openFiles(source, flags);
  const report = modelReport(checkpoint, { precision: 'fast', kvDtype: 'bf16' });
  const isDescribed = report.memory !== null;
  const tensors =
    flags.tensors === true && isDescribed ? estimate(describeDecoder(checkpoint), {}).tensors : null;
  if (flags.json === true) {
    answerJson({ ...report, ...(tensors === null ? {} : { tensors }) });
    return 0;
  }
  answer(formatFacts(modelFacts(report)));
  answer(
    `\n${report.memory === null ? storedTable(report.formats) : conversionTable(report.memory.conversions)}`,
  );
  if (tensors !== null) {
    const header = ['ROLE', 'SHAPE', 'STORED', 'COMPUTED AS', 'BITS'];
    answer(`\n${formatTable(header, tensors.map(tensorRow), [4])}`);
  }
  for (const warning of report.warnings) note(`${colors.yellow('warning:')} ${warning.message}`);
  for (const { message, hint } of report.problems) {
    note(`${colors.red('will not work:')} ${message}${hint === null ? '' : ` ${hint}`}`);
  }
  return 0;
}

/** Says how much memory a model takes, from its headers alone. */
export async function inspectEstimate(source: string, flags: EstimateFlags): Promise<number> {
  const report = estimate(describeDecoder(await openFiles(source, flags)), flags);
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
      ['working memory', formatBytes(report.scratchBytes)],
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
  const step = { maxStepTokens: DEFAULT_STEP_TOKENS, threads: availableParallelism() };
  return { ...settings, ...estimateMemory({ spec, tensors, ...settings, ...step }) };
}

async function openFiles(source: string, flags: InspectFlags): Promise<Checkpoint> {
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
    return await openCheckpoint(path, { signal });
  } finally {
    display.clear();
    interrupt.stop();
  }
}

const bitsOf = (bytes: number, numWeights: number): string => ((bytes * 8) / numWeights).toFixed(2);

/** What each kind of tensor becomes. */
function conversionTable(conversions: readonly ConversionReport[]): string {
  const header = ['STORED', 'COMPUTED AS', 'TENSORS', 'WEIGHTS', 'ON DISK', 'BITS', 'IN MEMORY', 'BITS'];
  const rows = conversions.map(({ stored, layout, numTensors, numWeights, storedBytes, bytes }) => [
    stored,
    layout,
    formatCount(numTensors),
    formatCount(numWeights),
    formatBytes(storedBytes),
    bitsOf(storedBytes, numWeights),
    formatBytes(bytes),
    bitsOf(bytes, numWeights),
  ]);
  return formatTable(header, rows, [2, 3, 4, 5, 6, 7]);
}

/** What is in the files, for models that cannot be described. */
function storedTable(formats: readonly FormatReport[]): string {
  const header = ['STORED', 'COMPUTED AS', 'TENSORS', 'WEIGHTS', 'ON DISK', 'BITS'];
  const rows = formats.map(({ stored, layout, numTensors, numWeights, bytes }) => [
    stored,
    layout ?? 'not supported',
    formatCount(numTensors),
    formatCount(numWeights),
    formatBytes(bytes),
    bitsOf(bytes, numWeights),
  ]);
  return formatTable(header, rows, [2, 3, 4, 5]);
}

function tensorRow({ role, shape, storedFormat, layout, bitsPerWeight }: TensorMemory): string[] {
  return [role, shape.join(' x '), storedFormat, layout, bitsPerWeight.toFixed(2)];
}

function modelFacts(report: ModelReport): [string, string][] {
  const { files, memory } = report;
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  const facts: [string, string][] = [
    ['name', report.name ?? 'not given'],
    ['family', `${report.family ?? `not supported: ${report.declared ?? 'not named'}`} (${report.format})`],
    ['files', `${files.length}, ${formatBytes(bytes)}: ${report.path}`],
  ];
  if (report.numParameters !== null) facts.push(['parameters', formatCount(report.numParameters)]);
  if (report.contextLength !== null) facts.push(['context', `${formatCount(report.contextLength)} tokens`]);
  facts.push(...(report.spec ?? []));
  facts.push(['tokenizer', report.tokenizer ?? 'none']);
  facts.push(['chat template', report.hasChatTemplate ? 'yes' : 'none']);
  facts.push(['ends at tokens', report.eosTokens.join(', ') || 'none']);
  if (memory === null) return facts;
  const { weightBytes, bitsPerWeight, storedBytes, kvBytesPerToken, precision, kvDtype } = memory;
  const inMemory = `${formatBytes(weightBytes)} in memory (${precision}), ${bitsPerWeight.toFixed(2)} bits each`;
  facts.push(['weights', `${formatBytes(storedBytes)} on disk, ${inMemory}`]);
  facts.push(['KV cache', `${formatBytes(kvBytesPerToken)} per token (${kvDtype})`]);
  return facts;
}
