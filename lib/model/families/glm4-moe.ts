import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import { ggufExperts, huggingfaceExperts } from './expert-tensors';
import type { Family } from './family';
import { extraLayers, withoutLastLayers } from './settings/decoder-settings';
import { GGUF_EXPERT_KEYS, readCorrectedExperts, readGgufExperts } from './settings/expert-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS } from './tensor-names';

const TRAITS: DenseTraits = { ...PLAIN_TRAITS, family: 'glm4_moe', tensors: HUGGINGFACE_TENSORS };

/** Layers behind the last that predict further tokens; generation passes over them. */
const MAX_PREDICTION_LAYERS = 16;

/** GLM-4.5, 4.5-Air, 4.6 and 4.7: experts after a few dense layers, half of each head rotates. */
export const glm4Moe: Family = {
  name: 'glm4_moe',
  modelTypes: ['glm4_moe'],
  architectures: ['Glm4MoeForCausalLM'],
  ggufArchitectures: ['glm4moe'],

  fromHuggingface(checkpoint, config) {
    const settings = readHuggingfaceSettings(config, {
      epsilon: 1e-5,
      contextLength: 131_072,
      partialRotaryFactor: 0.5,
      headDim: null,
      numKvHeads: 8,
    });
    const spec = readCorrectedExperts(config, settings.activation, 1);
    const numDense = config.integer('first_k_dense_replace', 0, settings.numLayers) ?? 1;
    const numPredicting = config.integer('num_nextn_predict_layers', 0, MAX_PREDICTION_LAYERS) ?? 1;
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkNorm: config.boolean('use_qk_norm') ?? false,
      hasQkvBias: config.boolean('attention_bias') ?? false,
      experts: {
        spec,
        isSparse: (layer) => layer >= numDense,
        tensors: huggingfaceExperts(checkpoint, spec, 'shared_experts'),
      },
      ignorable: extraLayers('model.layers', settings.numLayers, numPredicting),
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const all = readGgufSettings(checkpoint, metadata, architecture, { reads: GGUF_EXPERT_KEYS });
    const key = `${architecture}.nextn_predict_layers`;
    const numPredicting = metadata.integer(key, 0, Math.min(all.numLayers - 1, MAX_PREDICTION_LAYERS)) ?? 0;
    const settings = withoutLastLayers(all, numPredicting);
    const experts = readGgufExperts(metadata, architecture, settings.activation, {
      score: 'sigmoid',
      normalizesTopK: true,
      hasCorrectionBias: true,
      hasSharedGate: false,
    });
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkNorm: checkpoint.tensors.has('blk.0.attn_q_norm.weight'),
      hasQkvBias: checkpoint.tensors.has('blk.0.attn_q.bias'),
      // What the other architectures call ffn_norm.
      tensors: { ...GGUF_TENSORS, mlpNorm: 'post_attention_norm' },
      experts: { ...experts, tensors: ggufExperts(experts.spec) },
      ignorable: extraLayers('blk', settings.numLayers, numPredicting),
    };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
