import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { qwenWindows } from './settings/sliding-windows';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'qwen3',
  hasQkNorm: true,
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Qwen3: q and k are normed per head before rotation; the head size is independent of the hidden size. */
export const qwen3: Family = {
  name: 'qwen3',
  modelTypes: ['qwen3'],
  architectures: ['Qwen3ForCausalLM'],
  ggufArchitectures: ['qwen3'],

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 32_768,
      partialRotaryFactor: 1,
      headDim: 128,
      numKvHeads: 32,
    });
    const settings = { ...plain, slidingWindows: qwenWindows(config, plain.numLayers) };
    const hasBias = config.boolean('attention_bias') ?? false;
    const traits: DenseTraits = { ...TRAITS, hasQkvBias: hasBias, hasOutputBias: hasBias };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const settings = readGgufSettings(checkpoint, metadata, architecture);
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkvBias: checkpoint.tensors.has('blk.0.attn_q.bias'),
      hasOutputBias: checkpoint.tensors.has('blk.0.attn_output.bias'),
      tensors: GGUF_TENSORS,
    };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
