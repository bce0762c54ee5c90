import type { CheckpointWarning } from '../../checkpoint-types';
import type { ConfigReader } from '../../config-reader';
import { quoted, unsupportedModel } from '../../model-file-error';
import { BOUNDS, checkRotaryDim, type DecoderSettings, positive, requirePositive } from './decoder-settings';
import {
  longropeAttentionFactor,
  type RopeScaling,
  type RopeSettings,
  yarnAttentionFactor,
} from './rope-scaling';

export interface RopeDefaults {
  readonly base: number;
  /** Share of each head that rotates. */
  readonly partialRotaryFactor: number;
}

/** transformers 5 gathers everything in rope_parameters; before, rope_theta and rope_scaling stood apart. */
export function readRope(
  config: ConfigReader,
  headDim: number,
  maxPositions: number,
  defaults: RopeDefaults,
): Pick<DecoderSettings, 'contextLength' | 'warnings'> & { readonly rope: RopeSettings } {
  const section = config.has('rope_scaling') ? 'rope_scaling' : 'rope_parameters';
  const baseKey = config.has(`${section}.rope_theta`) ? `${section}.rope_theta` : 'rope_theta';
  const partialKey = config.has(`${section}.partial_rotary_factor`)
    ? `${section}.partial_rotary_factor`
    : 'partial_rotary_factor';
  const partial = positive(config, partialKey) ?? defaults.partialRotaryFactor;
  const rotaryDim = checkRotaryDim(config, partialKey, Math.trunc(headDim * partial), headDim);
  const base = positive(config, baseKey) ?? defaults.base;
  const { scaling, ...rest } = readRopeScaling({ config, section, maxPositions, rotaryDim });
  return { ...rest, rope: { base, rotaryDim, scaling } };
}

export interface ScalingContext {
  readonly config: ConfigReader;
  /** The key that holds the scaling's own keys. */
  readonly section: string;
  readonly maxPositions: number;
  readonly rotaryDim: number;
}

interface ScalingResult {
  readonly scaling: RopeScaling;
  readonly contextLength: number;
  readonly warnings: readonly CheckpointWarning[];
}

const SCALING_READERS: ReadonlyMap<string, (context: ScalingContext) => ScalingResult> = new Map([
  ['default', readPlain],
  ['linear', readLinear],
  ['dynamic', readDynamic],
  ['yarn', readYarn],
  ['llama3', readLlama3],
  ['longrope', readLongrope],
  ['su', readLongrope],
]);

export function readRopeScaling(context: ScalingContext): ScalingResult {
  const { config, section } = context;
  const typeKey = config.has(`${section}.rope_type`) ? `${section}.rope_type` : `${section}.type`;
  const type = config.string(typeKey) ?? 'default';
  const read = SCALING_READERS.get(type);
  if (read !== undefined) return read(context);
  throw unsupportedModel(config.file, `rope type ${quoted(type)}`, [...SCALING_READERS.keys()]);
}

function readPlain({ maxPositions }: ScalingContext): ScalingResult {
  return { scaling: { kind: 'none' }, contextLength: maxPositions, warnings: [] };
}

function readLinear({ config, section, maxPositions }: ScalingContext): ScalingResult {
  const factor = requirePositive(config, `${section}.factor`);
  return {
    scaling: { kind: 'linear', factor },
    contextLength: Math.floor(maxPositions * factor),
    warnings: [],
  };
}

/** Beyond the original length every new token would change the table, so the context ends there. */
function readDynamic({ config, section, maxPositions }: ScalingContext): ScalingResult {
  const factor = requirePositive(config, `${section}.factor`);
  return {
    scaling: { kind: 'dynamic', factor, originalLength: maxPositions },
    contextLength: maxPositions,
    warnings: [
      {
        code: 'context_limited',
        message: `${config.file}: dynamic rope scaling is not applied; the context stays at ${maxPositions} tokens`,
      },
    ],
  };
}

function originalLengthOf({ config, section, maxPositions }: ScalingContext): number {
  const key = 'original_max_position_embeddings';
  return (
    config.integer(key, 1, BOUNDS.contextLength) ??
    config.integer(`${section}.${key}`, 1, BOUNDS.contextLength) ??
    maxPositions
  );
}

function readYarn(context: ScalingContext): ScalingResult {
  const { config, section, maxPositions } = context;
  const originalLength = originalLengthOf(context);
  const factor = positive(config, `${section}.factor`) ?? maxPositions / originalLength;
  const mscale = config.number(`${section}.mscale`);
  const mscaleAllDim = config.number(`${section}.mscale_all_dim`);
  const inferred =
    mscale && mscaleAllDim
      ? yarnAttentionFactor(factor, mscale) / yarnAttentionFactor(factor, mscaleAllDim)
      : yarnAttentionFactor(factor);
  return {
    scaling: {
      kind: 'yarn',
      factor,
      originalLength,
      betaFast: positive(config, `${section}.beta_fast`) ?? 32,
      betaSlow: positive(config, `${section}.beta_slow`) ?? 1,
      attentionFactor: positive(config, `${section}.attention_factor`) ?? inferred,
      truncates: config.boolean(`${section}.truncate`) ?? true,
    },
    contextLength: Math.max(maxPositions, Math.floor(originalLength * factor)),
    warnings: [],
  };
}

function readLlama3(context: ScalingContext): ScalingResult {
  const { config, section, maxPositions } = context;
  const lowFrequencyFactor = requirePositive(config, `${section}.low_freq_factor`);
  const highFrequencyFactor = requirePositive(config, `${section}.high_freq_factor`);
  if (highFrequencyFactor <= lowFrequencyFactor) {
    const found = String(highFrequencyFactor);
    throw config.fault(
      `${section}.high_freq_factor`,
      `more than low_freq_factor ${lowFrequencyFactor}`,
      found,
    );
  }
  return {
    scaling: {
      kind: 'llama3',
      factor: requirePositive(config, `${section}.factor`),
      lowFrequencyFactor,
      highFrequencyFactor,
      originalLength: originalLengthOf(context),
    },
    contextLength: maxPositions,
    warnings: [],
  };
}

/** Whether a sequence is long is decided per request, by the length it may reach: see ropeTables. */
function readLongrope(context: ScalingContext): ScalingResult {
  const { config, section, maxPositions, rotaryDim } = context;
  const originalLength = originalLengthOf(context);
  const factor = positive(config, `${section}.factor`) ?? maxPositions / originalLength;
  return {
    scaling: {
      kind: 'longrope',
      shortFactors: readFactors(config, `${section}.short_factor`, rotaryDim / 2),
      longFactors: readFactors(config, `${section}.long_factor`, rotaryDim / 2),
      originalLength,
      attentionFactor:
        positive(config, `${section}.attention_factor`) ?? longropeAttentionFactor(factor, originalLength),
    },
    contextLength: maxPositions,
    warnings: [],
  };
}

function readFactors(config: ConfigReader, key: string, length: number): readonly number[] {
  const factors = config.numbers(key);
  if (factors?.length === length && factors.every((factor) => factor > 0)) return factors;
  throw config.fault(
    key,
    `${length} numbers above 0`,
    factors === null ? 'nothing' : `${factors.length} numbers`,
  );
}
