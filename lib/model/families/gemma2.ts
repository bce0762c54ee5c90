import type { ConfigReader } from '../config-reader';
import { unsupportedModel } from '../model-file-error';
import { type DenseTensors, type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import type { Family } from './family';
import { BOUNDS, type DecoderSettings, positive } from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import {
  type HuggingfaceDefaults,
  readActivation,
  readHuggingfaceSettings,
} from './settings/huggingface-settings';
import { windowsByLayer, windowsWhere } from './settings/sliding-windows';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

/** What all Gemmas share: norms on both sides of each branch, whose weights are stored as w - 1. */
export const GEMMA_TRAITS: Omit<DenseTraits, 'family' | 'tensors'> = {
  ...PLAIN_TRAITS,
  norm: { kind: 'rms', hasUnitOffset: true, hasBias: false },
  ignorable: ROTARY_BUFFERS,
};

/** Converters add the 1 to the norms. */
export const GGUF_GEMMA_TRAITS = { ...GEMMA_TRAITS, norm: PLAIN_TRAITS.norm };

export const GEMMA_TENSORS: DenseTensors = {
  ...HUGGINGFACE_TENSORS,
  attentionPostNorm: 'post_attention_layernorm',
  mlpNorm: 'pre_feedforward_layernorm',
  mlpPostNorm: 'post_feedforward_layernorm',
};

export const GGUF_GEMMA_TENSORS: DenseTensors = {
  ...GGUF_TENSORS,
  attentionPostNorm: 'post_attention_norm',
  mlpPostNorm: 'post_ffw_norm',
};

export const GGUF_GEMMA_KEYS = [
  'attention.sliding_window',
  'attn_logit_softcapping',
  'final_logit_softcapping',
] as const;

const DEFAULTS: HuggingfaceDefaults = {
  epsilon: 1e-6,
  contextLength: 8192,
  partialRotaryFactor: 1,
  headDim: 256,
  numKvHeads: 4,
};

const SOFT_CAPS = { attention: 50, logits: 30 } as const;
const WINDOW = 4096;
const LAYERS_OF_27B = 46;

/** Gemma 2: every other layer sees a window, and scores and logits are capped. */
export const gemma2: Family = {
  name: 'gemma2',
  modelTypes: ['gemma2'],
  architectures: ['Gemma2ForCausalLM'],
  ggufArchitectures: ['gemma2'],

  fromHuggingface(checkpoint, config) {
    const plain = readGemmaSettings(config, DEFAULTS);
    const window = config.integer('sliding_window', 1, BOUNDS.contextLength) ?? WINDOW;
    const settings = {
      ...plain,
      slidingWindows: windowsByLayer(config, plain.numLayers, window, isEven),
      attentionSoftCap: softCap(config, 'attn_logit_softcapping', SOFT_CAPS.attention),
      logitSoftCap: softCap(config, 'final_logit_softcapping', SOFT_CAPS.logits),
    };
    const hasBias = config.boolean('attention_bias') ?? false;
    const traits: DenseTraits = {
      ...GEMMA_TRAITS,
      family: 'gemma2',
      hasQkvBias: hasBias,
      hasOutputBias: hasBias,
      tensors: GEMMA_TENSORS,
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const plain = readGgufSettings(checkpoint, metadata, architecture, {
      reads: GGUF_GEMMA_KEYS,
      activation: 'gelu_tanh',
    });
    const key = (name: string): string => `${architecture}.${name}`;
    const window = metadata.integer(key('attention.sliding_window'), 1, BOUNDS.contextLength) ?? WINDOW;
    const settings = {
      ...ggufGemmaSettings(plain, LAYERS_OF_27B),
      slidingWindows: windowsWhere(plain.numLayers, window, isEven),
      attentionSoftCap: softCap(metadata, key('attn_logit_softcapping'), SOFT_CAPS.attention),
      logitSoftCap: softCap(metadata, key('final_logit_softcapping'), SOFT_CAPS.logits),
    };
    const traits: DenseTraits = { ...GGUF_GEMMA_TRAITS, family: 'gemma2', tensors: GGUF_GEMMA_TENSORS };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

const isEven = (layer: number): boolean => layer % 2 === 0;

/** A config may say null for none; `fallback` stands for an absent key. */
export function softCap(reader: ConfigReader, key: string, fallback: number | null): number | null {
  return reader.isStated(key) ? positive(reader, key) : fallback;
}

/** The keys that all Gemmas share. */
export function readGemmaSettings(config: ConfigReader, defaults: HuggingfaceDefaults): DecoderSettings {
  if (config.boolean('use_bidirectional_attention') === true) {
    throw unsupportedModel(config.file, 'use_bidirectional_attention true', ['false']);
  }
  const plain = readHuggingfaceSettings(config, defaults);
  return {
    ...plain,
    // `hidden_act` of the first checkpoints names an activation that was never meant.
    activation: readActivation(config, 'hidden_activation', 'gelu_pytorch_tanh'),
    embeddingScale: Math.sqrt(plain.hiddenSize),
    attentionScale: (positive(config, 'query_pre_attn_scalar') ?? 256) ** -0.5,
    isTied: plain.isTied ?? true,
  };
}

/** Files do not say how scores are scaled: by the head size, and in the 27B models by width per head. */
export function ggufGemmaSettings(plain: DecoderSettings, layersOf27b: number | null): DecoderSettings {
  const { numLayers, hiddenSize, numQHeads, headDim } = plain;
  const scaledBy = numLayers === layersOf27b ? hiddenSize / numQHeads : headDim;
  return { ...plain, embeddingScale: Math.sqrt(hiddenSize), attentionScale: scaledBy ** -0.5 };
}
