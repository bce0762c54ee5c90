import { type DenseTraits, describeDenseDecoder } from './dense-decoder';
import type { Family } from './family';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  family: 'qwen2',
  ropeStyle: 'half_split',
  hasQkNorm: false,
  hasQkvBias: true,
  hasOutputBias: false,
  hasMlpBias: false,
  tensors: HUGGINGFACE_TENSORS,
  rowOrder: null,
  ignorable: ROTARY_BUFFERS,
};

/** Qwen2 and Qwen2.5: q, k and v always have biases. */
export const qwen2: Family = {
  name: 'qwen2',
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  ggufArchitecture: 'qwen2',

  fromHuggingface(checkpoint, config) {
    const settings = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 32_768,
      partialRotaryFactor: 1,
      headDim: null,
      numKvHeads: 32,
    });
    return describeDenseDecoder(checkpoint, settings, TRAITS, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata) {
    const settings = readGgufSettings(checkpoint, metadata, this.ggufArchitecture);
    const traits: DenseTraits = { ...TRAITS, tensors: GGUF_TENSORS };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
