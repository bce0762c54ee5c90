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
  family: 'mistral',
  tensors: HUGGINGFACE_TENSORS,
  ignorable: ROTARY_BUFFERS,
};

/** What transformers assumes when the key is absent; `null`, as newer checkpoints say, means no window. */
const DEFAULT_WINDOW = 4096;

/** Mistral: as Llama, with a sliding window in its first version. GGUF files are `llama` ones, or `mistral3`. */
export const mistral: Family = {
  name: 'mistral',
  modelTypes: ['mistral'],
  architectures: ['MistralForCausalLM'],
  ggufArchitectures: ['mistral3'],

  fromHuggingface(checkpoint, config) {
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-6,
      contextLength: 131_072,
      partialRotaryFactor: 1,
      headDim: null,
      numKvHeads: 8,
    });
    const stated = config.integer('sliding_window', 1, BOUNDS.contextLength);
    const window = config.isStated('sliding_window') ? stated : DEFAULT_WINDOW;
    const slidingWindows = windowsByLayer(config, plain.numLayers, window, () => true);
    return describeDenseDecoder(
      checkpoint,
      { ...plain, slidingWindows },
      TRAITS,
      config.string('_name_or_path'),
    );
  },

  fromGguf(checkpoint, metadata, architecture) {
    const settings = readGgufSettings(checkpoint, metadata, architecture);
    const traits: DenseTraits = { ...TRAITS, tensors: GGUF_TENSORS, rowOrder: pairedRowOrder };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};
