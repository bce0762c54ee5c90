import type { MoeSpec } from '../../native/decoder-spec';
import { type ConfigReader, requireInteger } from '../config-reader';
import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import {
  type ExpertTensors,
  ggufExperts,
  hasFusedStacks,
  huggingfaceExperts,
  type SeparateExperts,
} from './expert-tensors';
import type { Family } from './family';
import { pairedRowOrder } from './llama';
import { BOUNDS, type DecoderSettings } from './settings/decoder-settings';
import { checkedExperts, GGUF_EXPERT_KEYS, readGgufExperts } from './settings/expert-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'mixtral',
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Mixtral: Mistral with experts in every layer. */
export const mixtral: Family = {
  name: 'mixtral',
  modelTypes: ['mixtral'],
  architectures: ['MixtralForCausalLM'],
  ggufArchitectures: ['llama'],
  claimsGguf: (metadata) => (metadata.integer('llama.expert_count', 0, BOUNDS.experts) ?? 0) > 0,

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-5,
      contextLength: 131_072,
      partialRotaryFactor: 1,
      ropeBase: 1_000_000,
      headDim: null,
      numKvHeads: 8,
    });
    const window = config.integer('sliding_window', 1, BOUNDS.contextLength);
    const slidingWindows = new Array<number | null>(plain.numLayers).fill(window);
    const spec = readExperts(config, plain);
    const tensors = hasFusedStacks(checkpoint) ? huggingfaceExperts(checkpoint, spec, null) : BLOCK_SPARSE;
    const traits: DenseTraits = { ...TRAITS, experts: { spec, isSparse: () => true, tensors } };
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
    const stacked = ggufExperts(experts.spec);
    const isSeparate = checkpoint.tensors.has('blk.0.ffn_down.0.weight');
    const tensors = isSeparate ? { ...stacked, experts: NUMBERED } : stacked;
    const traits: DenseTraits = {
      ...TRAITS,
      tensors: GGUF_TENSORS,
      rowOrder: pairedRowOrder,
      experts: { ...experts, tensors },
    };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

/** Names of the published checkpoints. */
const BLOCK_SPARSE: ExpertTensors = {
  router: 'block_sparse_moe.gate.weight',
  correction: null,
  experts: {
    kind: 'separate',
    names: (expert) => ({
      gate: `block_sparse_moe.experts.${expert}.w1.weight`,
      up: `block_sparse_moe.experts.${expert}.w3.weight`,
      down: `block_sparse_moe.experts.${expert}.w2.weight`,
    }),
  },
  shared: null,
  sharedGate: null,
};

/** GGUF files of early 2024, before experts were stacked. */
const NUMBERED: SeparateExperts = {
  kind: 'separate',
  names: (expert) => ({
    gate: `ffn_gate.${expert}.weight`,
    up: `ffn_up.${expert}.weight`,
    down: `ffn_down.${expert}.weight`,
  }),
};

function readExperts(config: ConfigReader, { activation, intermediateSize }: DecoderSettings): MoeSpec {
  const keys = { numExpertsPerToken: 'num_experts_per_tok', numGroups: '', topGroups: '' };
  return checkedExperts(config, keys, {
    kind: 'moe',
    numExperts: requireInteger(config, 'num_local_experts', 1, BOUNDS.experts),
    numExpertsPerToken: config.integer('num_experts_per_tok', 1, BOUNDS.experts) ?? 2,
    intermediateSize,
    sharedIntermediateSize: 0,
    hasSharedGate: false,
    activation,
    router: {
      score: 'softmax',
      hasCorrectionBias: false,
      numGroups: 1,
      topGroups: 1,
      normalizesTopK: true,
      scale: 1,
    },
  });
}
