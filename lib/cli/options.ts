import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Device } from '../engine/device-types';
import type { LoadSpeculation, Speculation } from '../engine/speculation-types';
import type { EngineOptions, LoadModelOptions, SamplingOptions } from '../engine/types';
import { AutoglmError } from '../errors';
import type { KvDtype } from '../native/abi';
import type { AdapterFlag } from './adapters';

/** Options of every command that loads a model, as Commander gives them. */
export interface ModelFlags {
  readonly device?: Device;
  readonly gpuLayers?: number | 'auto';
  readonly threads?: number;
  readonly context?: number;
  readonly kvMemory?: string;
  readonly kvDtype?: KvDtype;
  readonly precision?: 'fast' | 'exact';
  readonly concurrency?: number;
  readonly speculation?: Speculation;
  /** True unless `--no-autotune` is given. */
  readonly autotune?: boolean;
  readonly draftModel?: string;
  /** False with --no-weight-cache. */
  readonly weightCache?: boolean;
  readonly chatTemplate?: string;
  readonly adapter?: readonly AdapterFlag[];
  readonly offline?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

export interface SamplingFlags {
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
}

/** Ranges are the library's business; here only the shape is checked. */
export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

/** A whole number from 1 on. */
export function parseCount(text: string): number {
  const value = parseNumber(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('Expected a whole number of at least 1.');
  }
  return value;
}

export const parseCountOrAuto = (text: string): number | 'auto' =>
  text === 'auto' ? text : parseCount(text);

/** Counts with commas between them. */
export function parseCounts(text: string): number[] {
  return text.split(',').map(parseCount);
}

/** `off`, `prompt-lookup` or `draft-model`, the last two also with a number as in `prompt-lookup:8`. */
export function parseSpeculationFlag(text: string): Speculation {
  if (text === 'off') return text;
  const match = /^(prompt-lookup|draft-model)(?::(.+))?$/.exec(text);
  if (match === null) {
    throw new InvalidArgumentError(
      'Expected off, prompt-lookup or draft-model, the latter two also as MODE:MOST.',
    );
  }
  const [, mode, most] = match;
  return {
    mode: mode as 'prompt-lookup' | 'draft-model',
    ...(most === undefined ? {} : { maxTokens: parseCount(most) }),
  };
}

/** A draft model guesses unless it is said how else. */
function loadSpeculation({ speculation, draftModel }: ModelFlags): LoadSpeculation | undefined {
  if (speculation === undefined || speculation === 'off' || speculation.mode === 'prompt-lookup') {
    if (draftModel === undefined) return speculation;
    if (speculation === undefined) return { mode: 'draft-model', draftModel };
    throw new AutoglmError(
      'invalid_parameter',
      '--draft-model goes with --speculation draft-model, or without --speculation',
    );
  }
  if (draftModel !== undefined) return { ...speculation, draftModel };
  throw new AutoglmError('invalid_parameter', '--speculation draft-model needs a --draft-model');
}

export const collect = (text: string, list: readonly string[] = []): readonly string[] => [...list, text];

export function precisionOption(): Option {
  const text = 'exact computes in 32 bits throughout';
  return new Option('--precision <mode>', text).choices(['fast', 'exact']);
}

export function kvDtypeOption(): Option {
  return new Option('--kv-dtype <dtype>', 'numbers in the KV cache; fp8 on a GPU only').choices([
    'bf16',
    'f32',
    'int8',
    'fp8',
  ]);
}

export function addNetworkOptions(command: Command): Command {
  return command
    .option('--offline', 'use what is cached, never the network (also HF_HUB_OFFLINE=1)')
    .option('-q, --quiet', 'show neither progress nor figures')
    .option('--verbose', 'show what happens');
}

export function addModelOptions(command: Command): Command {
  addNetworkOptions(command)
    .option('--device <name>', 'what computes: cpu, cuda, or by number cuda:0, or several cuda:0,1')
    .option('--gpu-layers <n>', 'how many of the last layers GPUs compute, or auto', parseCountOrAuto)
    .option('-t, --threads <n>', 'compute threads', parseCount)
    .option('-c, --context <tokens>', 'tokens a sequence may reach', parseCount)
    .option('--kv-memory <size>', 'memory for the KV cache, such as 512MiB or 8GiB')
    .addOption(kvDtypeOption())
    .addOption(precisionOption())
    .option('--concurrency <n>', 'requests computed at once', parseCount)
    .option(
      '--speculation <mode>',
      'guess tokens ahead: prompt-lookup, draft-model, either with :MOST (guesses a step), or off',
      parseSpeculationFlag,
    )
    .option(
      '--no-autotune',
      'do not look for faster ways to use this processor (also OPEN_AUTOGLM_AUTOTUNE=0)',
    )
    .option('--draft-model <model>', 'a smaller model of the same vocabulary that guesses tokens ahead')
    .option(
      '--no-weight-cache',
      'neither use nor keep packed weights on disk (also OPEN_AUTOGLM_WEIGHT_CACHE=0)',
    )
    .option('--chat-template <file>', "Jinja template to use instead of the model's own");
  return command;
}

/**
 * Models without a generation_config.json, as every GGUF file is, would sample from all of their tokens: small ones then
 * talk nonsense. Programs get the bare distribution unless they ask; people get this.
 */
const MIN_P = 0.05;

export function addSamplingOptions(command: Command): Command {
  return command
    .option('-n, --max-tokens <n>', 'new tokens at most', parseCount)
    .option('--temperature <x>', '0 takes the likeliest token', parseNumber)
    .option('--top-k <n>', 'sample among the n likeliest tokens', parseNumber)
    .option('--top-p <x>', 'sample among the likeliest tokens of this total probability', parseNumber)
    .option('--min-p <x>', 'drop tokens less likely than this share of the likeliest', parseNumber, MIN_P)
    .option('--repetition-penalty <x>', 'above 1: repeat less', parseNumber)
    .option('--presence-penalty <x>', 'above 0: say new things', parseNumber)
    .option('--frequency-penalty <x>', 'above 0: say the same less often', parseNumber)
    .option('--seed <n>', 'the same seed gives the same answer', parseNumber)
    .option('--stop <text>', 'end before this text (may be repeated)', collect);
}

type Defined<T> = { -readonly [K in keyof T]?: Exclude<T[K], undefined> };

/** Without the keys whose value is undefined: the library tells an absent option from an undefined one. */
function defined<T extends object>(values: T): Defined<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>;
}

export function engineOptions({ device, threads }: ModelFlags): EngineOptions {
  return defined({ device, threads });
}

export function loadOptions(source: string, flags: ModelFlags): LoadModelOptions {
  const kvCache = defined({ memory: flags.kvMemory, dtype: flags.kvDtype });
  return {
    source,
    kvCache,
    ...defined({
      contextLength: flags.context,
      gpuLayers: flags.gpuLayers,
      precision: flags.precision,
      maxConcurrency: flags.concurrency,
      speculation: loadSpeculation(flags),
      offline: flags.offline,
      autotune: flags.autotune === false ? false : undefined,
      weightCache: flags.weightCache === false ? false : undefined,
    }),
  };
}

export function samplingOptions(
  flags: SamplingFlags,
): SamplingOptions & { maxTokens?: number; stop?: readonly string[] } {
  const { maxTokens, temperature, topK, topP, minP, seed, stop } = flags;
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = flags;
  const penalties = { repetitionPenalty, presencePenalty, frequencyPenalty };
  return defined({ maxTokens, temperature, topK, topP, minP, seed, stop, ...penalties });
}
