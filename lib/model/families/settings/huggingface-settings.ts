import type { Activation } from '../../../native/abi';
import type { CheckpointWarning } from '../../checkpoint-types';
import { type ConfigReader, requireInteger } from '../../config-reader';
import { quoted, unsupportedModel } from '../../model-file-error';
import {
  BOUNDS,
  checkedEpsilon,
  checkHeads,
  checkRotaryDim,
  type DecoderSettings,
  positive,
  requirePositive,
} from './decoder-settings';
import { type RopeScaling, yarnAttentionFactor } from './rope-scaling';

/** What transformers assumes when config.json leaves a key out; it differs by family. */
export interface HuggingfaceDefaults {
  readonly epsilon: number;
  readonly contextLength: number;
  readonly partialRotaryFactor: number;
  /** Null: hiddenSize / numQHeads. */
  readonly headDim: number | null;
  /** Null: as many as query heads. */
  readonly numKvHeads: number | null;
}

const ACTIVATIONS: ReadonlyMap<string, Activation> = new Map<string, Activation>([
  ['silu', 'silu'],
  ['swish', 'silu'],
  ['gelu', 'gelu_erf'],
  ['gelu_new', 'gelu_tanh'],
  ['gelu_pytorch_tanh', 'gelu_tanh'],
  ['relu', 'relu'],
]);

/** Reads the keys that all dense decoders of transformers share. */
export function readHuggingfaceSettings(
  config: ConfigReader,
  defaults: HuggingfaceDefaults,
): DecoderSettings {
  refuseQuantized(config);
  const hiddenSize = requireInteger(config, 'hidden_size', 1, BOUNDS.hiddenSize);
  const numLayers = requireInteger(config, 'num_hidden_layers', 1, BOUNDS.layers);
  const numQHeads = requireInteger(config, 'num_attention_heads', 1, BOUNDS.heads);
  const numKvHeads =
    config.integer('num_key_value_heads', 1, BOUNDS.heads) ?? defaults.numKvHeads ?? numQHeads;
  checkHeads(config, 'num_key_value_heads', numQHeads, numKvHeads);
  const headDim = readHeadDim(config, hiddenSize, numQHeads, defaults.headDim);
  const maxPositions =
    config.integer('max_position_embeddings', 1, BOUNDS.contextLength) ?? defaults.contextLength;
  const rope = readRope(config, headDim, maxPositions, defaults.partialRotaryFactor);
  const epsilon = config.number('rms_norm_eps') ?? defaults.epsilon;
  return {
    vocabSize: requireInteger(config, 'vocab_size', 1, BOUNDS.vocabSize),
    hiddenSize,
    intermediateSize: requireInteger(config, 'intermediate_size', 1, BOUNDS.intermediateSize),
    numLayers,
    numQHeads,
    numKvHeads,
    headDim,
    valueDim: headDim,
    epsilon: checkedEpsilon(config, 'rms_norm_eps', epsilon),
    activation: readActivation(config),
    isTied: config.boolean('tie_word_embeddings'),
    slidingWindows: readSlidingWindows(config, numLayers),
    ...rope,
  };
}

function refuseQuantized(config: ConfigReader): void {
  if (!config.has('quantization_config')) return;
  const method = config.string('quantization_config.quant_method') ?? 'unnamed';
  throw unsupportedModel(
    config.file,
    `a checkpoint quantized with ${quoted(method)}`,
    ['safetensors in F32, F16, BF16', 'GGUF files'],
    'Use the original checkpoint, or a GGUF file of it.',
  );
}

function readHeadDim(
  config: ConfigReader,
  hiddenSize: number,
  numQHeads: number,
  fallback: number | null,
): number {
  const headDim = config.integer('head_dim', 2, BOUNDS.headDim) ?? fallback;
  if (headDim !== null) return headDim;
  if (hiddenSize % numQHeads !== 0) {
    throw config.fault('num_attention_heads', `a divisor of hidden_size ${hiddenSize}`, String(numQHeads));
  }
  return hiddenSize / numQHeads;
}

function readActivation(config: ConfigReader): Activation {
  const name = config.string('hidden_act') ?? 'silu';
  const activation = ACTIVATIONS.get(name);
  if (activation !== undefined) return activation;
  throw unsupportedModel(config.file, `hidden_act ${quoted(name)}`, [...ACTIVATIONS.keys()]);
}

/** Newer configs list a type per layer; older ones say from which layer on the window applies. */
function readSlidingWindows(config: ConfigReader, numLayers: number): (number | null)[] {
  const isOn = config.boolean('use_sliding_window') ?? false;
  const window = isOn ? config.integer('sliding_window', 1, BOUNDS.contextLength) : null;
  if (window === null) return new Array<number | null>(numLayers).fill(null);
  const types = config.strings('layer_types');
  if (types === null) {
    const firstSliding = config.integer('max_window_layers', 0, BOUNDS.layers) ?? 28;
    return Array.from({ length: numLayers }, (_, layer) => (layer >= firstSliding ? window : null));
  }
  if (types.length !== numLayers) {
    throw config.fault(
      'layer_types',
      `one type for each of the ${numLayers} layers`,
      `${types.length} types`,
    );
  }
  return types.map((type) => {
    if (type === 'full_attention') return null;
    if (type === 'sliding_attention') return window;
    throw unsupportedModel(config.file, `layer type ${quoted(type)}`, [
      'full_attention',
      'sliding_attention',
    ]);
  });
}

type RopeSettings = Pick<
  DecoderSettings,
  'contextLength' | 'ropeBase' | 'rotaryDim' | 'ropeScaling' | 'warnings'
>;

/** transformers 5 gathers everything in rope_parameters; before, rope_theta and rope_scaling stood apart. */
function readRope(
  config: ConfigReader,
  headDim: number,
  maxPositions: number,
  defaultPartial: number,
): RopeSettings {
  const section = config.has('rope_scaling') ? 'rope_scaling' : 'rope_parameters';
  const baseKey = config.has(`${section}.rope_theta`) ? `${section}.rope_theta` : 'rope_theta';
  const partialKey = config.has(`${section}.partial_rotary_factor`)
    ? `${section}.partial_rotary_factor`
    : 'partial_rotary_factor';
  const partial = positive(config, partialKey) ?? defaultPartial;
  const rotaryDim = checkRotaryDim(config, partialKey, Math.trunc(headDim * partial), headDim);
  const common = { ropeBase: positive(config, baseKey) ?? 10_000, rotaryDim };
  const typeKey = config.has(`${section}.rope_type`) ? `${section}.rope_type` : `${section}.type`;
  const type = config.string(typeKey) ?? 'default';
  const read = SCALING_READERS.get(type);
  if (read === undefined) {
    throw unsupportedModel(config.file, `rope type ${quoted(type)}`, [...SCALING_READERS.keys()]);
  }
  return { ...common, ...read({ config, section, maxPositions, rotaryDim }) };
}

interface ScalingContext {
  readonly config: ConfigReader;
  readonly section: string;
  readonly maxPositions: number;
  readonly rotaryDim: number;
}

interface ScalingResult {
  readonly ropeScaling: RopeScaling;
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
]);

function readPlain({ maxPositions }: ScalingContext): ScalingResult {
  return { ropeScaling: { kind: 'none' }, contextLength: maxPositions, warnings: [] };
}

function readLinear({ config, section, maxPositions }: ScalingContext): ScalingResult {
  const factor = requirePositive(config, `${section}.factor`);
  return {
    ropeScaling: { kind: 'linear', factor },
    contextLength: Math.floor(maxPositions * factor),
    warnings: [],
  };
}

/** Beyond the original length every new token would change the table, so the context ends there. */
function readDynamic({ config, section, maxPositions }: ScalingContext): ScalingResult {
  const factor = requirePositive(config, `${section}.factor`);
  return {
    ropeScaling: { kind: 'dynamic', factor, originalLength: maxPositions },
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
    ropeScaling: {
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
    ropeScaling: {
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

/** Crossing the original length changes every cached key, so the context ends there. */
function readLongrope(context: ScalingContext): ScalingResult {
  const { config, section, maxPositions, rotaryDim } = context;
  const originalLength = originalLengthOf(context);
  const factor = positive(config, `${section}.factor`) ?? maxPositions / originalLength;
  const inferred = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalLength));
  return {
    ropeScaling: {
      kind: 'longrope',
      shortFactors: readFactors(config, `${section}.short_factor`, rotaryDim / 2),
      longFactors: readFactors(config, `${section}.long_factor`, rotaryDim / 2),
      originalLength,
      attentionFactor: positive(config, `${section}.attention_factor`) ?? inferred,
    },
    contextLength: Math.min(originalLength, maxPositions),
    warnings: [
      {
        code: 'context_limited',
        message: `${config.file}: only the short factors of longrope are used; the context is ${originalLength} tokens`,
      },
    ],
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
