import { type DenseTensors, type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { withFusedGateUp, withFusedQkv } from './fused-tensors';
import { BOUNDS, type DecoderSettings } from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { windowsByLayer, windowsWhere } from './settings/sliding-windows';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'phi3',
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

const fused = (tensors: DenseTensors, qkv: string, gateUp: string, settings: DecoderSettings): DenseTensors =>
  withFusedGateUp(withFusedQkv(tensors, qkv, settings), gateUp, settings);

/** Phi-3, 3.5 and 4 (mini): q, k, v and gate, up are one tensor each; longrope in the 128k versions. */
export const phi3: Family = {
  name: 'phi3',
  modelTypes: ['phi3'],
  architectures: ['Phi3ForCausalLM'],
  ggufArchitectures: ['phi3'],

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-5,
      contextLength: 4096,
      partialRotaryFactor: 1,
      headDim: null,
      numKvHeads: null,
    });
    const window = config.integer('sliding_window', 1, BOUNDS.contextLength);
    const slidingWindows = windowsByLayer(config, plain.numLayers, window, () => true);
    const settings = { ...plain, slidingWindows };
    const tensors = fused(HUGGINGFACE_TENSORS, 'self_attn.qkv_proj', 'mlp.gate_up_proj', settings);
    return describeDenseDecoder(checkpoint, settings, { ...TRAITS, tensors }, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const reads = ['attention.sliding_window'];
    const plain = readGgufSettings(checkpoint, metadata, architecture, { reads });
    // Zero says that there is none.
    const key = `${architecture}.attention.sliding_window`;
    const window = metadata.integer(key, 0, BOUNDS.contextLength) || null;
    const slidingWindows = windowsWhere(plain.numLayers, window, () => true);
    const settings = { ...plain, slidingWindows };
    const tensors = fused(GGUF_TENSORS, 'attn_qkv', 'ffn_up', settings);
    const traits: DenseTraits = { ...TRAITS, tensors };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
