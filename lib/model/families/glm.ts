import { chatglm, GLM_TRAITS } from './chatglm';
import { type DenseTraits, describeDenseDecoder } from './dense-decoder';
import type { Family } from './family';
import { withFusedGateUp } from './fused-tensors';
import type { DecoderSettings } from './settings/decoder-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { HUGGINGFACE_TENSORS } from './tensor-names';

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
  modelTypes: ['glm'],
  architectures: ['GlmForCausalLM'],
  ggufArchitectures: [],

  fromHuggingface(checkpoint, config) {
    const settings = withBaseWarning(readHuggingfaceSettings(config, GLM_DEFAULTS), config.file);
    const traits: DenseTraits = {
      ...GLM_TRAITS,
      hasQkvBias: config.boolean('attention_bias') ?? true,
      tensors: withFusedGateUp(HUGGINGFACE_TENSORS, 'mlp.gate_up_proj', settings),
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  /** Converters write GLM as `chatglm`. */
  fromGguf: chatglm.fromGguf,
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
