import { requireInteger } from '../config-reader';
import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import { ggufExperts, huggingfaceExperts } from './expert-tensors';
import type { Family } from './family';
import { BOUNDS, type DecoderSettings } from './settings/decoder-settings';
import { GGUF_EXPERT_KEYS, readGgufExperts, readQwenExperts } from './settings/expert-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { windowsByLayer } from './settings/sliding-windows';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'qwen2_moe',
  hasQkvBias: true,
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Qwen1.5-MoE and Qwen2-MoE: a shared expert behind a gate of its own. */
export const qwen2Moe: Family = {
  name: 'qwen2_moe',
  modelTypes: ['qwen2_moe'],
  architectures: ['Qwen2MoeForCausalLM'],
  ggufArchitectures: ['qwen2moe'],

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 32_768,
      partialRotaryFactor: 1,
      headDim: null,
      numKvHeads: 16,
    });
    const isWindowed = config.boolean('use_sliding_window') ?? false;
    const window = isWindowed ? config.integer('sliding_window', 1, BOUNDS.contextLength) : null;
    const numWindowed = config.integer('max_window_layers', 0, BOUNDS.layers) ?? 28;
    const settings: DecoderSettings = {
      ...plain,
      slidingWindows: windowsByLayer(
        config,
        plain.numLayers,
        window,
        (layer) => layer % 2 === 0 && layer < numWindowed,
      ),
    };
    const sharedKey = 'shared_expert_intermediate_size';
    const experts = readQwenExperts(config, settings.activation, {
      sharedIntermediateSize: requireInteger(config, sharedKey, 1, BOUNDS.intermediateSize),
      hasSharedGate: true,
    });
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkvBias: config.boolean('qkv_bias') ?? true,
      experts: { ...experts, tensors: huggingfaceExperts(checkpoint, experts.spec, 'shared_expert') },
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const settings = readGgufSettings(checkpoint, metadata, architecture, { reads: GGUF_EXPERT_KEYS });
    const experts = readGgufExperts(metadata, architecture, settings.activation, {
      score: 'softmax',
      normalizesTopK: false,
      hasCorrectionBias: false,
      hasSharedGate: true,
    });
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkvBias: checkpoint.tensors.has('blk.0.attn_q.bias'),
      tensors: GGUF_TENSORS,
      experts: { ...experts, tensors: ggufExperts(experts.spec) },
    };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
