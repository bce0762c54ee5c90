import type { ConfigReader } from '../config-reader';
import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { pairedRowOrder } from './llama';
import { BOUNDS } from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { windowsByLayer } from './settings/sliding-windows';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'smollm3',
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** Every fourth layer does not rotate; GGUF files have no key for it. */
const DEFAULT_INTERVAL = 4;

/** SmolLM3: as Llama, but some layers know no positions. */
export const smollm3: Family = {
  name: 'smollm3',
  modelTypes: ['smollm3'],
  architectures: ['SmolLM3ForCausalLM'],
  ggufArchitectures: ['smollm3'],

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 32_768,
      partialRotaryFactor: 1,
      ropeBase: 2_000_000,
      headDim: null,
      numKvHeads: 4,
    });
    const layerRopes = readLayerRopes(config, plain.numLayers);
    const isOn = config.boolean('use_sliding_window') ?? false;
    const window = isOn ? config.integer('sliding_window', 1, BOUNDS.contextLength) : null;
    const slidingWindows = windowsByLayer(
      config,
      plain.numLayers,
      window,
      (layer) => layerRopes[layer] === null,
    );
    const hasAttentionBias = config.boolean('attention_bias') ?? false;
    const traits: DenseTraits = {
      ...TRAITS,
      hasQkvBias: hasAttentionBias,
      hasOutputBias: hasAttentionBias,
      hasMlpBias: config.boolean('mlp_bias') ?? false,
    };
    const settings = { ...plain, layerRopes, slidingWindows };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const plain = readGgufSettings(checkpoint, metadata, architecture);
    const settings = { ...plain, layerRopes: everyNthUnrotated(plain.numLayers, DEFAULT_INTERVAL) };
    const traits: DenseTraits = { ...TRAITS, tensors: GGUF_TENSORS, rowOrder: pairedRowOrder };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

function readLayerRopes(config: ConfigReader, numLayers: number): readonly (number | null)[] {
  const rotates = config.numbers('no_rope_layers');
  if (rotates === null) {
    const interval = config.integer('no_rope_layer_interval', 1, BOUNDS.layers) ?? DEFAULT_INTERVAL;
    return everyNthUnrotated(numLayers, interval);
  }
  // The key's name means the opposite of its values: 1 is a layer that rotates.
  if (rotates.length < numLayers) {
    const expected = `one value for each of the ${numLayers} layers`;
    throw config.fault('no_rope_layers', expected, `${rotates.length} values`);
  }
  return rotates.slice(0, numLayers).map((value) => (value === 0 ? null : 0));
}

const everyNthUnrotated = (numLayers: number, interval: number): readonly (number | null)[] =>
  Array.from({ length: numLayers }, (_, layer) => ((layer + 1) % interval === 0 ? null : 0));
