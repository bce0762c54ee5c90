import type { Checkpoint } from '../checkpoint-types';
import { type ConfigReader, requireInteger } from '../config-reader';
import { unsupportedModel } from '../model-file-error';
import { type DenseTensors, type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { withFusedGateUp, withFusedQkv } from './fused-tensors';
import {
  BOUNDS,
  checkedEpsilon,
  checkHeads,
  checkRotaryDim,
  type DecoderSettings,
  plainAttention,
  positive,
} from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { GGUF_TENSORS } from './tensor-names';

/** What all generations of GLM share: neighbours rotate, and q, k and v have biases. */
export const GLM_TRAITS: Omit<DenseTraits, 'tensors'> = {
  ...PLAIN_TRAITS,
  family: 'glm',
  ropeStyle: 'interleaved',
  hasQkvBias: true,
  ignorable: /rotary_(pos_)?emb\.inv_freq$/,
};

const REMOTE_CODE_TENSORS: DenseTensors = {
  embedding: 'transformer.embedding.word_embeddings',
  positions: null,
  finalNorm: 'transformer.encoder.final_layernorm',
  head: 'transformer.output_layer',
  layerPrefix: (layer) => `transformer.encoder.layers.${layer}.`,
  attentionNorm: 'input_layernorm',
  attentionPostNorm: null,
  mlpNorm: 'post_attention_layernorm',
  mlpPostNorm: null,
  q: { name: 'self_attention.query_key_value' },
  k: { name: 'self_attention.query_key_value' },
  v: { name: 'self_attention.query_key_value' },
  o: { name: 'self_attention.dense' },
  qNorm: '',
  kNorm: '',
  gate: { name: 'mlp.dense_h_to_4h' },
  up: { name: 'mlp.dense_h_to_4h' },
  down: { name: 'mlp.dense_4h_to_h' },
};

/** ChatGLM3 and GLM-4-9B as their own code wrote them, and every GLM's GGUF files but those of the 0414 models. */
export const chatglm: Family = {
  name: 'chatglm',
  modelTypes: ['chatglm'],
  architectures: ['ChatGLMModel', 'ChatGLMForConditionalGeneration'],
  ggufArchitectures: ['chatglm'],

  fromHuggingface(checkpoint, config) {
    const settings = readSettings(config);
    const hasBias = config.boolean('add_bias_linear') ?? false;
    const separate = withFusedGateUp(REMOTE_CODE_TENSORS, 'mlp.dense_h_to_4h', settings);
    const traits: DenseTraits = {
      ...GLM_TRAITS,
      family: 'chatglm',
      hasQkvBias: hasBias || (config.boolean('add_qkv_bias') ?? false),
      hasOutputBias: hasBias,
      hasMlpBias: hasBias,
      tensors: withFusedQkv(separate, 'self_attention.query_key_value', settings),
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const settings = readGgufSettings(checkpoint, metadata, architecture);
    const hasFusedQkv = checkpoint.tensors.has('blk.0.attn_qkv.weight');
    const separate = withFusedGateUp(GGUF_TENSORS, 'ffn_up', settings);
    const tensors = hasFusedQkv ? withFusedQkv(separate, 'attn_qkv', settings) : separate;
    const traits: DenseTraits = { ...GLM_TRAITS, hasQkvBias: hasQkvBias(checkpoint), tensors };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

export function hasQkvBias(checkpoint: Checkpoint): boolean {
  return checkpoint.tensors.has('blk.0.attn_qkv.bias') || checkpoint.tensors.has('blk.0.attn_q.bias');
}

/** Switches of the remote code with the one value that every published checkpoint has. */
const FIXED_SWITCHES = {
  multi_query_attention: true,
  rmsnorm: true,
  original_rope: true,
  post_layer_norm: true,
  apply_residual_connection_post_layernorm: false,
} as const;

function readSettings(config: ConfigReader): DecoderSettings {
  refuseOwnQuantization(config);
  for (const [key, value] of Object.entries(FIXED_SWITCHES)) {
    const stated = config.boolean(key) ?? value;
    if (stated !== value) throw unsupportedModel(config.file, `${key} ${stated}`, [String(value)]);
  }
  const numLayers = requireInteger(config, 'num_layers', 1, BOUNDS.layers);
  const numQHeads = requireInteger(config, 'num_attention_heads', 1, BOUNDS.heads);
  const numKvHeads = requireInteger(config, 'multi_query_group_num', 1, BOUNDS.heads);
  checkHeads(config, 'multi_query_group_num', numQHeads, numKvHeads);
  const headDim = requireInteger(config, 'kv_channels', 2, BOUNDS.headDim);
  const rotaryDim = checkRotaryDim(config, 'kv_channels', headDim / 2, headDim);
  const epsilon = config.number('layernorm_epsilon') ?? 1e-5;
  return {
    vocabSize: requireInteger(config, 'padded_vocab_size', 1, BOUNDS.vocabSize),
    hiddenSize: requireInteger(config, 'hidden_size', 1, BOUNDS.hiddenSize),
    intermediateSize: requireInteger(config, 'ffn_hidden_size', 1, BOUNDS.intermediateSize),
    numLayers,
    numQHeads,
    numKvHeads,
    headDim,
    valueDim: headDim,
    epsilon: checkedEpsilon(config, 'layernorm_epsilon', epsilon),
    contextLength: requireInteger(config, 'seq_length', 1, BOUNDS.contextLength),
    activation: 'silu',
    ...plainAttention(numLayers, headDim),
    ropes: [{ base: 10_000 * (positive(config, 'rope_ratio') ?? 1), rotaryDim, scaling: { kind: 'none' } }],
    isTied: config.boolean('tie_word_embeddings') ?? false,
    warnings: [],
  };
}

/** The remote code's own int4 and int8 files, whose weights have separate scales. */
function refuseOwnQuantization(config: ConfigReader): void {
  const bits = config.integer('quantization_bit', 0, 16) ?? 0;
  if (bits === 0) return;
  const supported = ['safetensors in F32, F16, BF16', 'GGUF files'];
  throw unsupportedModel(config.file, `quantization_bit ${bits}`, supported, 'Use the original checkpoint.');
}
