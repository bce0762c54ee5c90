import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import { ggufExperts, huggingfaceExperts } from './expert-tensors';
import type { Family } from './family';
import { BOUNDS } from './settings/decoder-settings';
import { GGUF_EXPERT_KEYS, readGgufExperts, readQwenExperts } from './settings/expert-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'qwen3_moe',
  hasQkNorm: true,
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Qwen3-MoE: as Qwen3, with experts and without a shared one. */
export const qwen3Moe: Family = {
  name: 'qwen3_moe',
  modelTypes: ['qwen3_moe'],
  architectures: ['Qwen3MoeForCausalLM'],
  ggufArchitectures: ['qwen3moe'],

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 32_768,
      partialRotaryFactor: 1,
      headDim: null,
      numKvHeads: 4,
    });
    const isWindowed = config.boolean('use_sliding_window') ?? false;
    const window = isWindowed ? config.integer('sliding_window', 1, BOUNDS.contextLength) : null;
    const slidingWindows = new Array<number | null>(plain.numLayers).fill(window);
    const experts = readQwenExperts(config, plain.activation, {
      sharedIntermediateSize: 0,
      hasSharedGate: false,
    });
    const hasBias = config.boolean('attention_bias') ?? false;
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkvBias: hasBias,
      hasOutputBias: hasBias,
      experts: { ...experts, tensors: huggingfaceExperts(checkpoint, experts.spec, null) },
    };
    const settings = { ...plain, slidingWindows };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const settings = readGgufSettings(checkpoint, metadata, architecture, { reads: GGUF_EXPERT_KEYS });
    const experts = readGgufExperts(metadata, architecture, settings.activation, {
      score: 'softmax',
      normalizesTopK: true,
      hasCorrectionBias: false,
      hasSharedGate: false,
    });
    const traits: DenseTraits = {
      ...TRAITS,
      tensors: GGUF_TENSORS,
      experts: { ...experts, tensors: ggufExperts(experts.spec) },
    };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
