import type { Checkpoint, CheckpointWarning } from '../../checkpoint-types';
import { requireInteger } from '../../config-reader';
import type { GgufMetadata } from '../../gguf/metadata';
import { invalidModelFile, quoted, unsupportedModel } from '../../model-file-error';
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

/** Keys that would change the numbers and that no supported family writes. */
const REFUSED_KEYS = [
  'expert_count',
  'embedding_scale',
  'residual_scale',
  'logit_scale',
  'attention.scale',
  'attn_logit_softcapping',
  'final_logit_softcapping',
  'rope.scaling.yarn_log_multiplier',
  'rope.dimension_sections',
] as const;

/** Reads the keys that all dense decoders share. */
export function readGgufSettings(
  checkpoint: Checkpoint,
  metadata: GgufMetadata,
  architecture: string,
): DecoderSettings {
  const key = (name: string): string => `${architecture}.${name}`;
  for (const name of REFUSED_KEYS) refuseKey(metadata, key(name));
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
  const epsilonKey = key('attention.layer_norm_rms_epsilon');
  return {
    vocabSize: readVocabSize(checkpoint, metadata, key('vocab_size')),
    hiddenSize,
    intermediateSize,
    numLayers,
    numQHeads,
    numKvHeads,
    headDim,
    valueDim,
    epsilon: checkedEpsilon(metadata, epsilonKey, requirePositive(metadata, epsilonKey)),
    contextLength: requireInteger(metadata, key('context_length'), 1, BOUNDS.contextLength),
    activation: 'silu',
    ropeBase: positive(metadata, key('rope.freq_base')) ?? 10_000,
    rotaryDim: checkRotaryDim(metadata, rotaryKey, rotaryDim, headDim),
    ropeScaling: readScaling(metadata, key, checkpoint.ropeVectors.get('rope_freqs.weight'), rotaryDim / 2),
    isTied: null,
    slidingWindows: new Array<number | null>(numLayers).fill(null),
    warnings: slidingWindowWarning(metadata, key('attention.sliding_window')),
  };
}

function refuseKey(metadata: GgufMetadata, key: string): void {
  if (!metadata.has(key)) return;
  if (!metadata.isList(key) && metadata.number(key) === 0) return;
  throw unsupportedModel(metadata.file, `key ${quoted(key)}`, [
    'dense llama, qwen2, qwen3, chatglm and glm4 models',
  ]);
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

function readScaling(
  metadata: GgufMetadata,
  key: (name: string) => string,
  divisors: Float32Array | undefined,
  numPairs: number,
): RopeScaling {
  if (divisors !== undefined) return checkedDivisors(metadata, divisors, numPairs);
  const type = metadata.string(key('rope.scaling.type')) ?? 'none';
  if (type === 'none') return { kind: 'none' };
  const factor = requirePositive(metadata, key('rope.scaling.factor'));
  if (type === 'linear') return { kind: 'linear', factor };
  if (type !== 'yarn') {
    throw unsupportedModel(metadata.file, `rope scaling type ${quoted(type)}`, ['none', 'linear', 'yarn']);
  }
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

function checkedDivisors(metadata: GgufMetadata, divisors: Float32Array, numPairs: number): RopeScaling {
  const fault = (expected: string, found: string) =>
    invalidModelFile({ file: metadata.file, where: 'tensor "rope_freqs.weight"', expected, found });
  if (divisors.length !== numPairs) throw fault(`${numPairs} numbers`, `${divisors.length}`);
  const wrong = divisors.findIndex((divisor) => !(divisor > 0 && Number.isFinite(divisor)));
  if (wrong >= 0) throw fault('numbers above 0', `${divisors[wrong]} at index ${wrong}`);
  return { kind: 'divisors', divisors };
}

/** Converters of full-attention models copy the key, and no engine applies it to these architectures. */
function slidingWindowWarning(metadata: GgufMetadata, key: string): readonly CheckpointWarning[] {
  const window = metadata.has(key) ? metadata.number(key) : 0;
  if (window === 0) return [];
  const message = `${metadata.file}: ${quoted(key)} is not applied; every layer sees the whole context`;
  return [{ code: 'key_ignored', message }];
}
