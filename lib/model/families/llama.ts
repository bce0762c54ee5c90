import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'llama',
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Llama 2 and 3, SmolLM2 and whatever else is built like them. */
export const llama: Family = {
  name: 'llama',
  modelTypes: ['llama'],
  architectures: ['LlamaForCausalLM'],
  ggufArchitectures: ['llama'],

  fromHuggingface(checkpoint, config) {
    const settings = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 2048,
      partialRotaryFactor: 1,
      headDim: null,
      numKvHeads: null,
    });
    const hasAttentionBias = config.boolean('attention_bias') ?? false;
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkvBias: hasAttentionBias,
      hasOutputBias: hasAttentionBias,
      hasMlpBias: config.boolean('mlp_bias') ?? false,
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkvBias: checkpoint.tensors.has('blk.0.attn_q.bias'),
      hasOutputBias: checkpoint.tensors.has('blk.0.attn_output.bias'),
      hasMlpBias: checkpoint.tensors.has('blk.0.ffn_down.bias'),
      tensors: GGUF_TENSORS,
      rowOrder: pairedRowOrder,
    };
    const settings = readGgufSettings(checkpoint, metadata, architecture);
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

/**
 * Llama converters interleave the two halves of each q and k head, so that rotated partners are neighbours: row
 * 2j + half of the file is row half * headDim / 2 + j of the model.
 */
export function pairedRowOrder(numHeads: number, headDim: number): Int32Array {
  const halfDim = headDim / 2;
  const order = new Int32Array(numHeads * headDim);
  for (let row = 0; row < order.length; row += 1) {
    const inHead = row % headDim;
    const half = inHead < halfDim ? 0 : 1;
    order[row] = row - inHead + 2 * (inHead - half * halfDim) + half;
  }
  return order;
}
