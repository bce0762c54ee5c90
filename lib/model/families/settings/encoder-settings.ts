import type { Checkpoint } from '../../checkpoint-types';
import { type ConfigReader, requireInteger } from '../../config-reader';
import type { GgufMetadata } from '../../gguf/metadata';
import { quoted, unsupportedModel } from '../../model-file-error';
import type { EncoderSettings } from '../encoder';
import { BOUNDS, checkedEpsilon, requirePositive } from './decoder-settings';
import { readActivation } from './huggingface-settings';

const MAX_TOKEN_TYPES = 1024;

/** `numSkipped`: rows of the stored positions that come before position 0. */
export function readHuggingfaceEncoder(config: ConfigReader, numSkipped: number): EncoderSettings {
  const positions = config.string('position_embedding_type') ?? 'absolute';
  if (positions !== 'absolute') {
    throw unsupportedModel(config.file, `position_embedding_type ${quoted(positions)}`, ['absolute']);
  }
  if (config.boolean('is_decoder') === true) {
    throw unsupportedModel(config.file, 'is_decoder true', ['bidirectional encoders']);
  }
  const numRows = requireInteger(config, 'max_position_embeddings', numSkipped + 1, BOUNDS.contextLength);
  return {
    vocabSize: requireInteger(config, 'vocab_size', 1, BOUNDS.vocabSize),
    ...readSizes(config, {
      hiddenSize: 'hidden_size',
      intermediateSize: 'intermediate_size',
      numLayers: 'num_hidden_layers',
      numHeads: 'num_attention_heads',
    }),
    epsilon: checkedEpsilon(config, 'layer_norm_eps', config.number('layer_norm_eps') ?? 1e-12),
    activation: readActivation(config, 'hidden_act', 'gelu'),
    contextLength: numRows - numSkipped,
    positionRows: { first: numSkipped, total: numRows },
    numTokenTypes: config.integer('type_vocab_size', 1, MAX_TOKEN_TYPES) ?? 2,
  };
}

/** GGUF files hold the positions without the rows that are skipped. */
export function readGgufEncoder(
  checkpoint: Checkpoint,
  metadata: GgufMetadata,
  architecture: string,
): EncoderSettings {
  const key = (name: string): string => `${architecture}.${name}`;
  if (metadata.boolean(key('attention.causal')) === true) {
    throw unsupportedModel(metadata.file, `${key('attention.causal')} true`, ['bidirectional encoders']);
  }
  const epsilonKey = key('attention.layer_norm_epsilon');
  const rows = (name: string): number | null => checkpoint.tensors.get(name)?.shape[0] ?? null;
  const contextLength = requireInteger(metadata, key('context_length'), 1, BOUNDS.contextLength);
  const vocabSize = rows('token_embd.weight') ?? 0;
  if (vocabSize < 1 || vocabSize > BOUNDS.vocabSize) {
    const expected = `a tensor token_embd.weight of 1..${BOUNDS.vocabSize} rows`;
    throw metadata.fault(key('vocab_size'), expected, `${vocabSize}`);
  }
  return {
    vocabSize,
    ...readSizes(metadata, {
      hiddenSize: key('embedding_length'),
      intermediateSize: key('feed_forward_length'),
      numLayers: key('block_count'),
      numHeads: key('attention.head_count'),
    }),
    epsilon: checkedEpsilon(metadata, epsilonKey, requirePositive(metadata, epsilonKey)),
    activation: 'gelu_erf',
    contextLength,
    positionRows: { first: 0, total: rows('position_embd.weight') ?? contextLength },
    numTokenTypes: Math.min(rows('token_types.weight') ?? 0, MAX_TOKEN_TYPES),
  };
}

type Sizes = Pick<EncoderSettings, 'hiddenSize' | 'intermediateSize' | 'numLayers' | 'numHeads'>;

/** An even head size: keys are stored in pairs. */
function readSizes(reader: ConfigReader, keys: Readonly<Record<keyof Sizes, string>>): Sizes {
  const hiddenSize = requireInteger(reader, keys.hiddenSize, 1, BOUNDS.hiddenSize);
  const numHeads = requireInteger(reader, keys.numHeads, 1, BOUNDS.heads);
  const headDim = hiddenSize / numHeads;
  if (!Number.isInteger(headDim / 2) || headDim > BOUNDS.headDim) {
    const expected = `heads of an even size up to ${BOUNDS.headDim} that make up ${hiddenSize} in all`;
    throw reader.fault(keys.numHeads, expected, `${numHeads}`);
  }
  return {
    hiddenSize,
    numHeads,
    intermediateSize: requireInteger(reader, keys.intermediateSize, 1, BOUNDS.intermediateSize),
    numLayers: requireInteger(reader, keys.numLayers, 1, BOUNDS.layers),
  };
}
