import { GLM_TRAITS, hasQkvBias } from './chatglm';
import { type DenseTensors, type DenseTraits, describeDenseDecoder } from './dense-decoder';
import type { Family } from './family';
import { withFusedGateUp } from './fused-tensors';
import { GLM_DEFAULTS } from './glm';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS } from './tensor-names';

const HUGGINGFACE_GLM4: DenseTensors = {
  ...HUGGINGFACE_TENSORS,
  attentionPostNorm: 'post_self_attn_layernorm',
  mlpPostNorm: 'post_mlp_layernorm',
};

const GGUF_GLM4: DenseTensors = {
  ...GGUF_TENSORS,
  attentionPostNorm: 'post_attention_norm',
  mlpPostNorm: 'post_ffw_norm',
};

/** GLM-4-0414 and GLM-Z1: as GLM, with a norm on each sub-layer's output besides. */
export const glm4: Family = {
  name: 'glm4',
  modelTypes: ['glm4'],
  architectures: ['Glm4ForCausalLM'],
  ggufArchitectures: ['glm4'],

  fromHuggingface(checkpoint, config) {
    const settings = readHuggingfaceSettings(config, GLM_DEFAULTS);
    const traits: DenseTraits = {
      ...GLM_TRAITS,
      family: 'glm4',
      hasQkvBias: config.boolean('attention_bias') ?? true,
      tensors: withFusedGateUp(HUGGINGFACE_GLM4, 'mlp.gate_up_proj', settings),
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const settings = readGgufSettings(checkpoint, metadata, architecture);
    const traits: DenseTraits = {
      ...GLM_TRAITS,
      family: 'glm4',
      hasQkvBias: hasQkvBias(checkpoint),
      tensors: withFusedGateUp(GGUF_GLM4, 'ffn_up', settings),
    };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
