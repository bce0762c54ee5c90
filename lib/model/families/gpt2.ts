import { type ConfigReader, requireInteger } from '../config-reader';
import { unsupportedModel } from '../model-file-error';
import { type DenseTensors, type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { withFusedQkv } from './fused-tensors';
import {
  BOUNDS,
  checkedEpsilon,
  checkHeads,
  type DecoderSettings,
  plainAttention,
} from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readActivation } from './settings/huggingface-settings';
import { GGUF_TENSORS } from './tensor-names';

const TRAITS: Omit<DenseTraits, 'tensors'> = {
  ...PLAIN_TRAITS,
  family: 'gpt2',
  norm: { kind: 'layer', hasUnitOffset: false, hasBias: true },
  hasQkvBias: true,
  hasOutputBias: true,
  hasMlpBias: true,
  // Causal masks that old exporters saved.
  ignorable: /attn\.(masked_)?bias$/,
};

/** The original files have no prefix; models saved by transformers have one. */
const huggingfaceTensors = (prefix: string): DenseTensors => ({
  embedding: `${prefix}wte`,
  positions: `${prefix}wpe`,
  finalNorm: `${prefix}ln_f`,
  head: 'lm_head',
  layerPrefix: (layer) => `${prefix}h.${layer}.`,
  attentionNorm: 'ln_1',
  attentionPostNorm: null,
  mlpNorm: 'ln_2',
  mlpPostNorm: null,
  q: { name: 'attn.c_attn' },
  k: { name: 'attn.c_attn' },
  v: { name: 'attn.c_attn' },
  o: { name: 'attn.c_proj' },
  qNorm: '',
  kNorm: '',
  gate: null,
  up: { name: 'mlp.c_fc' },
  down: { name: 'mlp.c_proj' },
});

/** GPT-2: learned positions, layer norms, an MLP without gate, matrices stored the other way round. */
export const gpt2: Family = {
  name: 'gpt2',
  modelTypes: ['gpt2'],
  architectures: ['GPT2LMHeadModel'],
  ggufArchitectures: ['gpt2'],

  fromHuggingface(checkpoint, config) {
    const settings = readSettings(config);
    const prefix = checkpoint.tensors.has('wte.weight') ? '' : 'transformer.';
    const tensors = withFusedQkv(huggingfaceTensors(prefix), 'attn.c_attn', settings);
    const traits: DenseTraits = { ...TRAITS, tensors, isTransposed: true };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const plain = readGgufSettings(checkpoint, metadata, architecture, {
      epsilonKey: 'attention.layer_norm_epsilon',
      activation: 'gelu_tanh',
    });
    const settings = withoutRope(plain);
    const named: DenseTensors = { ...GGUF_TENSORS, positions: 'position_embd', gate: null };
    const tensors = withFusedQkv(named, 'attn_qkv', settings);
    return describeDenseDecoder(
      checkpoint,
      settings,
      { ...TRAITS, tensors },
      metadata.string('general.name'),
    );
  },
};

const withoutRope = (settings: DecoderSettings): DecoderSettings => ({
  ...settings,
  ropes: [],
  layerRopes: settings.layerRopes.map(() => null),
});

function readSettings(config: ConfigReader): DecoderSettings {
  refuseVariants(config);
  const hiddenSize = requireInteger(config, 'n_embd', 1, BOUNDS.hiddenSize);
  const numLayers = requireInteger(config, 'n_layer', 1, BOUNDS.layers);
  const numQHeads = requireInteger(config, 'n_head', 1, BOUNDS.heads);
  checkHeads(config, 'n_head', hiddenSize, numQHeads);
  const headDim = hiddenSize / numQHeads;
  const epsilon = config.number('layer_norm_epsilon') ?? 1e-5;
  return withoutRope({
    vocabSize: requireInteger(config, 'vocab_size', 1, BOUNDS.vocabSize),
    hiddenSize,
    intermediateSize: config.integer('n_inner', 1, BOUNDS.intermediateSize) ?? 4 * hiddenSize,
    numLayers,
    numQHeads,
    numKvHeads: numQHeads,
    headDim,
    valueDim: headDim,
    epsilon: checkedEpsilon(config, 'layer_norm_epsilon', epsilon),
    contextLength: config.integer('n_positions', 1, BOUNDS.contextLength) ?? 1024,
    activation: readActivation(config, 'activation_function', 'gelu_new'),
    ...plainAttention(numLayers, headDim),
    attentionScale: (config.boolean('scale_attn_weights') ?? true) ? headDim ** -0.5 : 1,
    ropes: [],
    isTied: config.boolean('tie_word_embeddings') ?? true,
    warnings: [],
  });
}

function refuseVariants(config: ConfigReader): void {
  for (const key of ['scale_attn_by_inverse_layer_idx', 'add_cross_attention']) {
    if (config.boolean(key) === true) throw unsupportedModel(config.file, `${key} true`, ['false']);
  }
}
