import type { Activation } from '../../../native/abi';
import { type ConfigReader, requireInteger } from '../../config-reader';
import { quoted, unsupportedModel } from '../../model-file-error';
import { BOUNDS, checkedEpsilon, checkHeads, type DecoderSettings, plainAttention } from './decoder-settings';
import { readRope } from './huggingface-rope';

/** What transformers assumes when config.json leaves a key out; it differs by family. */
export interface HuggingfaceDefaults {
  readonly epsilon: number;
  readonly contextLength: number;
  readonly partialRotaryFactor: number;
  /** 10,000 unless given. */
  readonly ropeBase?: number;
  /** Null: hiddenSize / numQHeads. */
  readonly headDim: number | null;
  /** Null: as many as query heads. */
  readonly numKvHeads: number | null;
  /** Without these two the config has to say. */
  readonly numQHeads?: number;
  readonly vocabSize?: number;
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
  const hiddenSize = requireInteger(config, 'hidden_size', 1, BOUNDS.hiddenSize);
  const numLayers = requireInteger(config, 'num_hidden_layers', 1, BOUNDS.layers);
  const numQHeads = integerOr(config, 'num_attention_heads', BOUNDS.heads, defaults.numQHeads);
  const numKvHeads =
    config.integer('num_key_value_heads', 1, BOUNDS.heads) ?? defaults.numKvHeads ?? numQHeads;
  checkHeads(config, 'num_key_value_heads', numQHeads, numKvHeads);
  const headDim = readHeadDim(config, hiddenSize, numQHeads, defaults.headDim);
  const maxPositions =
    config.integer('max_position_embeddings', 1, BOUNDS.contextLength) ?? defaults.contextLength;
  const { ropeBase: base = 10_000, partialRotaryFactor } = defaults;
  const { rope, ...reach } = readRope(config, headDim, maxPositions, { base, partialRotaryFactor });
  const epsilon = config.number('rms_norm_eps') ?? defaults.epsilon;
  return {
    vocabSize: integerOr(config, 'vocab_size', BOUNDS.vocabSize, defaults.vocabSize),
    hiddenSize,
    intermediateSize: requireInteger(config, 'intermediate_size', 1, BOUNDS.intermediateSize),
    numLayers,
    numQHeads,
    numKvHeads,
    headDim,
    valueDim: headDim,
    epsilon: checkedEpsilon(config, 'rms_norm_eps', epsilon),
    activation: readActivation(config, 'hidden_act', 'silu'),
    isTied: config.boolean('tie_word_embeddings'),
    ...plainAttention(numLayers, headDim),
    ropes: [rope],
    ...reach,
  };
}

const integerOr = (config: ConfigReader, key: string, max: number, fallback: number | undefined): number =>
  fallback === undefined || config.has(key) ? requireInteger(config, key, 1, max) : fallback;

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

export function readActivation(config: ConfigReader, key: string, fallback: string): Activation {
  const name = config.string(key) ?? fallback;
  const activation = ACTIVATIONS.get(name);
  if (activation !== undefined) return activation;
  throw unsupportedModel(config.file, `${key} ${quoted(name)}`, [...ACTIVATIONS.keys()]);
}
