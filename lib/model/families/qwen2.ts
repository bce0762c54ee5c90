import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { qwenWindows } from './settings/sliding-windows';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'qwen2',
  hasQkvBias: true,
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Qwen2 and Qwen2.5: q, k and v always have biases. */
export const qwen2: Family = {
  name: 'qwen2',
  modelTypes: ['qwen2'],
  architectures: ['Qwen2ForCausalLM'],
  ggufArchitectures: ['qwen2'],

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 32_768,
      partialRotaryFactor: 1,
      headDim: null,
      numKvHeads: 32,
    });
    const settings = { ...plain, slidingWindows: qwenWindows(config, plain.numLayers) };
    return describeDenseDecoder(checkpoint, settings, TRAITS, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const settings = readGgufSettings(checkpoint, metadata, architecture);
    const traits: DenseTraits = { ...TRAITS, tensors: GGUF_TENSORS };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
