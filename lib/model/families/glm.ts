import type { Checkpoint } from '../checkpoint-types';
import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { withFusedGateUp, withFusedQkv } from './fused-tensors';
import type { DecoderSettings } from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

/** What GLM and GLM-4-0414 share: neighbours rotate, q, k and v have biases, gate and up are one tensor. */
export const GLM_TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'glm',
  ropeStyle: 'interleaved',
  hasQkvBias: true,
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Defaults of transformers' GlmConfig and Glm4Config. */
export const GLM_DEFAULTS = {
  epsilon: 1.5625e-7,
  contextLength: 131_072,
  partialRotaryFactor: 0.5,
  headDim: 128,
  numKvHeads: 2,
} as const;

/** GLM-4-9B (the -hf checkpoints) and GLM-Edge. */
export const glm: Family = {
  name: 'glm',
  modelType: 'glm',
  architecture: 'GlmForCausalLM',
  ggufArchitecture: 'chatglm',

  fromHuggingface(checkpoint, config) {
    const settings = withBaseWarning(readHuggingfaceSettings(config, GLM_DEFAULTS), config.file);
    const traits: DenseTraits = {
      ...GLM_TRAITS,
      hasQkvBias: config.boolean('attention_bias') ?? true,
      tensors: withFusedGateUp(HUGGINGFACE_TENSORS, 'mlp.gate_up_proj', settings),
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata) {
    const settings = readGgufSettings(checkpoint, metadata, this.ggufArchitecture);
    const hasFusedQkv = checkpoint.tensors.has('blk.0.attn_qkv.weight');
    const separate = withFusedGateUp(GGUF_TENSORS, 'ffn_up', settings);
    const tensors = hasFusedQkv ? withFusedQkv(separate, 'attn_qkv', settings) : separate;
    const traits: DenseTraits = { ...GLM_TRAITS, hasQkvBias: hasQkvBias(checkpoint), tensors };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

/**
 * GLM-4-9B was trained for 131,072 tokens with a base of 5,000,000; copies of its config with the default base exist.
 * The file is followed, and long prompts will show which is right.
 */
function withBaseWarning(settings: DecoderSettings, file: string): DecoderSettings {
  if (settings.ropes[0]?.base !== 10_000 || settings.contextLength <= 32_768) return settings;
  const message = `${file}: rope base 10000 with a context of ${settings.contextLength} tokens; long prompts may suffer`;
  return { ...settings, warnings: [...settings.warnings, { code: 'rope_base', message }] };
}

export function hasQkvBias(checkpoint: Checkpoint): boolean {
  return checkpoint.tensors.has('blk.0.attn_qkv.bias') || checkpoint.tensors.has('blk.0.attn_q.bias');
}
