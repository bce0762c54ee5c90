import { type DenseTraits, describeDenseDecoder } from './dense-decoder';
import type { Family } from './family';
import { GEMMA_TRAITS, GGUF_GEMMA_TRAITS, ggufGemmaSettings, readGemmaSettings } from './gemma2';
import { readGgufSettings } from './settings/gguf-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS } from './tensor-names';

/** The first Gemma: norms stored as w - 1 and a scaled embedding, else built like Llama. */
export const gemma: Family = {
  name: 'gemma',
  modelTypes: ['gemma'],
  architectures: ['GemmaForCausalLM'],
  ggufArchitectures: ['gemma'],

  fromHuggingface(checkpoint, config) {
    const plain = readGemmaSettings(config, {
      epsilon: 1e-6,
      contextLength: 8192,
      partialRotaryFactor: 1,
      headDim: 256,
      numKvHeads: 16,
    });
    const hasBias = config.boolean('attention_bias') ?? false;
    const traits: DenseTraits = {
      ...GEMMA_TRAITS,
      family: 'gemma',
      hasQkvBias: hasBias,
      hasOutputBias: hasBias,
      tensors: HUGGINGFACE_TENSORS,
    };
    const settings = { ...plain, attentionScale: plain.headDim ** -0.5 };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const plain = readGgufSettings(checkpoint, metadata, architecture, { activation: 'gelu_tanh' });
    const traits: DenseTraits = { ...GGUF_GEMMA_TRAITS, family: 'gemma', tensors: GGUF_TENSORS };
    const settings = ggufGemmaSettings(plain, null);
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
