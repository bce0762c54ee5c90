import type { Checkpoint } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import { type DenseTraits, describeDenseDecoder } from './dense-decoder';
import type { DecoderDescription, Family } from './family';
import {
  GEMMA_TENSORS,
  GEMMA_TRAITS,
  GGUF_GEMMA_KEYS,
  GGUF_GEMMA_TENSORS,
  GGUF_GEMMA_TRAITS,
  ggufGemmaSettings,
  readGemmaSettings,
  softCap,
} from './gemma2';
import { BOUNDS, type DecoderSettings, positive } from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readRopeScaling } from './settings/huggingface-rope';
import type { HuggingfaceDefaults } from './settings/huggingface-settings';
import type { RopeSettings } from './settings/rope-scaling';
import { windowsByLayer, windowsWhere } from './settings/sliding-windows';

/** The configs of the larger models leave nearly everything out. */
const DEFAULTS: HuggingfaceDefaults = {
  epsilon: 1e-6,
  contextLength: 131_072,
  partialRotaryFactor: 1,
  headDim: 256,
  numQHeads: 8,
  numKvHeads: 4,
  vocabSize: 262_208,
};

/** Of layers with a window, and of those that see everything. */
const ROPE_BASES = { local: 10_000, global: 1_000_000 } as const;
const WINDOW = 4096;
const PATTERN = 6;
const LAYERS_OF_27B = 62;

/** Gemma 3: five layers with a window, then one that sees everything and rotates by another base. */
export const gemma3: Family = {
  name: 'gemma3',
  modelTypes: ['gemma3_text'],
  architectures: ['Gemma3ForCausalLM'],
  ggufArchitectures: ['gemma3'],

  fromHuggingface(checkpoint, config) {
    return describeText(checkpoint, config, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const key = (name: string): string => `${architecture}.${name}`;
    const plain = readGgufSettings(checkpoint, metadata, architecture, {
      reads: GGUF_GEMMA_KEYS,
      activation: 'gelu_tanh',
    });
    const window = metadata.integer(key('attention.sliding_window'), 1, BOUNDS.contextLength);
    const patternKey = key('attention.sliding_window_pattern');
    const pattern = metadata.integer(patternKey, 1, BOUNDS.layers) ?? PATTERN;
    const settings: DecoderSettings = {
      ...ggufGemmaSettings(plain, LAYERS_OF_27B),
      logitSoftCap: softCap(metadata, key('final_logit_softcapping'), null),
      slidingWindows: windowsWhere(plain.numLayers, window, isLocal(pattern)),
    };
    const [{ rotaryDim, scaling }] = plain.ropes as [RopeSettings];
    const base = positive(metadata, key('rope.freq_base')) ?? ROPE_BASES.global;
    const localBase = positive(metadata, key('rope.freq_base_swa')) ?? ROPE_BASES.local;
    const global = { base, rotaryDim, scaling };
    const local: RopeSettings = { base: localBase, rotaryDim, scaling: { kind: 'none' } };
    const traits: DenseTraits = {
      ...GGUF_GEMMA_TRAITS,
      family: 'gemma3',
      hasQkNorm: true,
      tensors: GGUF_GEMMA_TENSORS,
    };
    const name = metadata.string('general.name');
    return describeDenseDecoder(checkpoint, withRopes(settings, global, local), traits, name);
  },
};

function describeText(checkpoint: Checkpoint, config: ConfigReader, name: string | null): DecoderDescription {
  const plain = readGemmaSettings(config, DEFAULTS);
  const pattern = config.integer('sliding_window_pattern', 1, BOUNDS.layers) ?? PATTERN;
  const window = config.integer('sliding_window', 1, BOUNDS.contextLength) ?? WINDOW;
  const contextLength =
    config.integer('max_position_embeddings', 1, BOUNDS.contextLength) ?? DEFAULTS.contextLength;
  const settings: DecoderSettings = {
    ...plain,
    contextLength,
    attentionSoftCap: softCap(config, 'attn_logit_softcapping', null),
    logitSoftCap: softCap(config, 'final_logit_softcapping', null),
    slidingWindows: windowsByLayer(config, plain.numLayers, window, isLocal(pattern)),
  };
  const hasBias = config.boolean('attention_bias') ?? false;
  const traits: DenseTraits = {
    ...GEMMA_TRAITS,
    family: 'gemma3',
    hasQkNorm: true,
    hasQkvBias: hasBias,
    hasOutputBias: hasBias,
    tensors: GEMMA_TENSORS,
    ignorable: /rotary_emb(_local)?\.inv_freq$/,
  };
  const { global, local } = readRopes(config, plain.headDim, contextLength);
  return describeDenseDecoder(checkpoint, withRopes(settings, global, local), traits, name);
}

const isLocal =
  (pattern: number) =>
  (layer: number): boolean =>
    (layer + 1) % pattern !== 0;

/** Rope 0 is that of layers without a window, rope 1 that of the others. */
function withRopes(settings: DecoderSettings, global: RopeSettings, local: RopeSettings): DecoderSettings {
  const layerRopes = settings.slidingWindows.map((window) => (window === null ? 0 : 1));
  return { ...settings, ropes: [global, local], layerRopes };
}

/** transformers 5 has a section per layer type; before, scaling was meant for the layers without a window. */
function readRopes(
  config: ConfigReader,
  rotaryDim: number,
  maxPositions: number,
): Readonly<Record<'global' | 'local', RopeSettings>> {
  const read = (
    layerType: string,
    older: { readonly baseKey: string; readonly section: string },
    base: number,
  ) => {
    const newer = `rope_parameters.${layerType}`;
    const section = config.has(newer) ? newer : older.section;
    const { scaling } = readRopeScaling({ config, section, maxPositions, rotaryDim });
    const stated = positive(config, `${newer}.rope_theta`) ?? positive(config, older.baseKey);
    return { base: stated ?? base, rotaryDim, scaling };
  };
  const local = 'sliding_attention';
  return {
    global: read('full_attention', { baseKey: 'rope_theta', section: 'rope_scaling' }, ROPE_BASES.global),
    local: read(
      local,
      { baseKey: 'rope_local_base_freq', section: `rope_parameters.${local}` },
      ROPE_BASES.local,
    ),
  };
}
