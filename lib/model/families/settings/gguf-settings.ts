import type { Activation } from '../../../native/abi';
import { type Checkpoint, type CheckpointWarning, ROPE_VECTORS } from '../../checkpoint-types';
import { requireInteger } from '../../config-reader';
import type { GgufMetadata } from '../../gguf/metadata';
import { invalidModelFile, quoted, unsupportedModel } from '../../model-file-error';
import {
  BOUNDS,
  checkedEpsilon,
  checkHeads,
  checkRotaryDim,
  type DecoderSettings,
  plainAttention,
  positive,
  requirePositive,
} from './decoder-settings';
import { longropeAttentionFactor, type RopeScaling, yarnAttentionFactor } from './rope-scaling';

/** Keys that would change the numbers and that no supported family writes. */
const REFUSED_KEYS = [
  'expert_count',
  'embedding_scale',
  'residual_scale',
  'logit_scale',
  'attention.scale',
  'attn_logit_softcapping',
  'final_logit_softcapping',
  'attention.temperature_scale',
  'rope.scaling.yarn_log_multiplier',
  'rope.dimension_sections',
] as const;

/** What a family's files say otherwise than most. */
export interface GgufVariations {
  /** Keys that the family's own code reads. */
  readonly reads?: readonly string[];
  readonly epsilonKey?: string;
  readonly activation?: Activation;
}

/** Reads the keys that all dense decoders share. */
export function readGgufSettings(
  checkpoint: Checkpoint,
  metadata: GgufMetadata,
  architecture: string,
  variations: GgufVariations = {},
): DecoderSettings {
  const { reads = [], epsilonKey = 'attention.layer_norm_rms_epsilon', activation = 'silu' } = variations;
  const key = (name: string): string => `${architecture}.${name}`;
  for (const name of REFUSED_KEYS) if (!reads.includes(name)) refuseKey(metadata, key(name));
  const hiddenSize = requireInteger(metadata, key('embedding_length'), 1, BOUNDS.hiddenSize);
  const numLayers = requireInteger(metadata, key('block_count'), 1, BOUNDS.layers);
  const numQHeads = perLayer(metadata, key('attention.head_count'), numLayers, BOUNDS.heads);
  if (numQHeads === null) throw metadata.fault(key('attention.head_count'), 'a number of heads', 'nothing');
  const numKvHeads = perLayer(metadata, key('attention.head_count_kv'), numLayers, BOUNDS.heads) ?? numQHeads;
  checkHeads(metadata, key('attention.head_count_kv'), numQHeads, numKvHeads);
  const intermediateSize = perLayer(metadata, key('feed_forward_length'), numLayers, BOUNDS.intermediateSize);
  if (intermediateSize === null) throw metadata.fault(key('feed_forward_length'), 'a size', 'nothing');
  const headDim = readHeadDim(metadata, key('attention.key_length'), hiddenSize, numQHeads);
  const valueDim = metadata.integer(key('attention.value_length'), 1, BOUNDS.headDim) ?? headDim;
  const rotaryKey = key('rope.dimension_count');
  const rotaryDim = metadata.integer(rotaryKey, 1, BOUNDS.headDim) ?? headDim;
  const contextLength = requireInteger(metadata, key('context_length'), 1, BOUNDS.contextLength);
  return {
    vocabSize: readVocabSize(checkpoint, metadata, key('vocab_size')),
    hiddenSize,
    intermediateSize,
    numLayers,
    numQHeads,
    numKvHeads,
    headDim,
    valueDim,
    epsilon: checkedEpsilon(metadata, key(epsilonKey), requirePositive(metadata, key(epsilonKey))),
    contextLength,
    activation,
    ...plainAttention(numLayers, headDim),
    ropes: [
      {
        base: positive(metadata, key('rope.freq_base')) ?? 10_000,
        rotaryDim: checkRotaryDim(metadata, rotaryKey, rotaryDim, headDim),
        scaling: readScaling({ checkpoint, metadata, key, contextLength, numPairs: rotaryDim / 2 }),
      },
    ],
    isTied: null,
    warnings: reads.includes('attention.sliding_window')
      ? []
      : slidingWindowWarning(metadata, key('attention.sliding_window')),
  };
}

function refuseKey(metadata: GgufMetadata, key: string): void {
  if (!metadata.has(key)) return;
  if (!metadata.isList(key) && metadata.number(key) === 0) return;
  throw unsupportedModel(metadata.file, `key ${quoted(key)}`, ['files without it']);
}

/** A setting given once, or once per layer; layers that differ are not supported. */
function perLayer(metadata: GgufMetadata, key: string, numLayers: number, max: number): number | null {
  if (!metadata.isList(key)) return metadata.integer(key, 1, max);
  const values = metadata.numbers(key) ?? [];
  const [first] = values;
  if (values.length !== numLayers || first === undefined) {
    throw metadata.fault(key, `one value for each of the ${numLayers} layers`, `${values.length} values`);
  }
  if (!Number.isInteger(first) || first < 1 || first > max) {
    throw metadata.fault(key, `whole numbers in 1..${max}`, String(first));
  }
  if (values.some((value) => value !== first)) {
    throw unsupportedModel(metadata.file, `a different ${quoted(key)} by layer`, ['the same in all layers']);
  }
  return first;
}

function readHeadDim(metadata: GgufMetadata, key: string, hiddenSize: number, numQHeads: number): number {
  const headDim = metadata.integer(key, 2, BOUNDS.headDim);
  if (headDim !== null) return headDim;
  const fallback = hiddenSize / numQHeads;
  if (Number.isInteger(fallback) && fallback >= 2 && fallback <= BOUNDS.headDim) return fallback;
  throw metadata.fault(key, `a head size, as ${hiddenSize} / ${numQHeads} heads is none`, 'nothing');
}

/** The embedding's rows; the key and the vocabulary may not contradict them. */
function readVocabSize(checkpoint: Checkpoint, metadata: GgufMetadata, key: string): number {
  const numRows = checkpoint.tensors.get('token_embd.weight')?.shape[0];
  const stated = metadata.integer(key, 1, BOUNDS.vocabSize);
  const numTokens = metadata.stringTable('tokenizer.ggml.tokens')?.ends.length ?? null;
  const vocabSize = numRows ?? stated ?? numTokens;
  if (vocabSize === null || vocabSize > BOUNDS.vocabSize) {
    throw metadata.fault(
      key,
      `a vocabulary of 1..${BOUNDS.vocabSize} tokens`,
      String(vocabSize ?? 'nothing'),
    );
  }
  if (stated !== null && stated !== vocabSize) {
    throw metadata.fault(key, `${vocabSize}, the rows of token_embd.weight`, String(stated));
  }
  if (numTokens !== null && numTokens > vocabSize) {
    const expected = `at most ${vocabSize} tokens, the rows of token_embd.weight`;
    throw metadata.fault('tokenizer.ggml.tokens', expected, String(numTokens));
  }
  return vocabSize;
}

interface GgufScalingContext {
  readonly checkpoint: Checkpoint;
  readonly metadata: GgufMetadata;
  readonly key: (name: string) => string;
  readonly contextLength: number;
  readonly numPairs: number;
}

const SCALING_TYPES = ['none', 'linear', 'yarn', 'longrope'] as const;

function readScaling(context: GgufScalingContext): RopeScaling {
  const { checkpoint, metadata, key, numPairs } = context;
  if (checkpoint.ropeVectors.has(ROPE_VECTORS.divisors)) {
    return { kind: 'divisors', divisors: ropeVector(checkpoint, ROPE_VECTORS.divisors, numPairs) };
  }
  if (checkpoint.ropeVectors.has(ROPE_VECTORS.long)) return readLongrope(context);
  const type = metadata.string(key('rope.scaling.type')) ?? 'none';
  switch (type) {
    case 'none':
      return { kind: 'none' };
    case 'linear':
      return { kind: 'linear', factor: requirePositive(metadata, key('rope.scaling.factor')) };
    case 'longrope':
      return readLongrope(context);
    case 'yarn':
      return readYarn(metadata, key);
    default:
      throw unsupportedModel(metadata.file, `rope scaling type ${quoted(type)}`, SCALING_TYPES);
  }
}

function readYarn(metadata: GgufMetadata, key: (name: string) => string): RopeScaling {
  const factor = requirePositive(metadata, key('rope.scaling.factor'));
  const originalKey = key('rope.scaling.original_context_length');
  return {
    kind: 'yarn',
    factor,
    originalLength: requireInteger(metadata, originalKey, 1, BOUNDS.contextLength),
    betaFast: positive(metadata, key('rope.scaling.yarn_beta_fast')) ?? 32,
    betaSlow: positive(metadata, key('rope.scaling.yarn_beta_slow')) ?? 1,
    attentionFactor: yarnAttentionFactor(factor) * (positive(metadata, key('rope.scaling.attn_factor')) ?? 1),
    truncates: true,
  };
}

function readLongrope({
  checkpoint,
  metadata,
  key,
  contextLength,
  numPairs,
}: GgufScalingContext): RopeScaling {
  const originalKey = key('rope.scaling.original_context_length');
  const originalLength = requireInteger(metadata, originalKey, 1, BOUNDS.contextLength);
  return {
    kind: 'longrope',
    shortFactors: [...ropeVector(checkpoint, ROPE_VECTORS.short, numPairs)],
    longFactors: [...ropeVector(checkpoint, ROPE_VECTORS.long, numPairs)],
    originalLength,
    attentionFactor:
      positive(metadata, key('rope.scaling.attn_factor')) ??
      longropeAttentionFactor(contextLength / originalLength, originalLength),
  };
}

function ropeVector(checkpoint: Checkpoint, name: string, length: number): Float32Array {
  const vector = checkpoint.ropeVectors.get(name);
  const file = checkpoint.files[0]?.path ?? checkpoint.path;
  const fault = (expected: string, found: string) =>
    invalidModelFile({ file, where: `tensor ${quoted(name)}`, expected, found });
  if (vector === undefined) throw fault(`${length} numbers`, 'no such tensor');
  if (vector.length !== length) throw fault(`${length} numbers`, `${vector.length}`);
  const wrong = vector.findIndex((divisor) => !(divisor > 0 && Number.isFinite(divisor)));
  if (wrong >= 0) throw fault('numbers above 0', `${vector[wrong]} at index ${wrong}`);
  return vector;
}

/** Converters of full-attention models copy the key, and no engine applies it to these architectures. */
function slidingWindowWarning(metadata: GgufMetadata, key: string): readonly CheckpointWarning[] {
  const window = metadata.has(key) ? metadata.number(key) : 0;
  if (window === 0) return [];
  const message = `${metadata.file}: ${quoted(key)} is not applied; every layer sees the whole context`;
  return [{ code: 'key_ignored', message }];
}
