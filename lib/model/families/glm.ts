import type { Checkpoint } from '../checkpoint-types';
import { type DenseTensors, type DenseTraits, describeDenseDecoder } from './dense-decoder';
import type { Family } from './family';
import type { DecoderSettings } from './settings/decoder-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS, ROTARY_BUFFERS } from './tensor-names';

/** What GLM and GLM-4-0414 share: neighbours rotate, q, k and v have biases, gate and up are one tensor. */
export const GLM_TRAITS: DenseTraits = {
  family: 'glm',
  ropeStyle: 'interleaved',
  hasQkNorm: false,
  hasQkvBias: true,
  hasOutputBias: false,
  hasMlpBias: false,
  tensors: HUGGINGFACE_TENSORS,
  rowOrder: null,
  ignorable: ROTARY_BUFFERS,
};

/** Defaults of transformers' GlmConfig and Glm4Config. */
export const GLM_DEFAULTS = {
  epsilon: 1.5625e-7,
  contextLength: 131_072,
  partialRotaryFactor: 0.5,
  headDim: 128,
  numKvHeads: 2,
} as const;

/** GLM-4-9B (the -hf checkpoints) and GLM-Edge. */
export const glm: Family = {
  name: 'glm',
  modelType: 'glm',
  architecture: 'GlmForCausalLM',
  ggufArchitecture: 'chatglm',

  fromHuggingface(checkpoint, config) {
    const settings = withBaseWarning(readHuggingfaceSettings(config, GLM_DEFAULTS), config.file);
    const traits: DenseTraits = {
      ...GLM_TRAITS,
      hasQkvBias: config.boolean('attention_bias') ?? true,
      tensors: withFusedGateUp(HUGGINGFACE_TENSORS, 'mlp.gate_up_proj', settings),
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata) {
    const settings = readGgufSettings(checkpoint, metadata, this.ggufArchitecture);
    const hasFusedQkv = checkpoint.tensors.has('blk.0.attn_qkv.weight');
    const separate = withFusedGateUp(GGUF_TENSORS, 'ffn_up', settings);
    const tensors = hasFusedQkv ? withFusedQkv(separate, 'attn_qkv', settings) : separate;
    const traits: DenseTraits = { ...GLM_TRAITS, hasQkvBias: hasQkvBias(checkpoint), tensors };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

/**
 * GLM-4-9B was trained for 131,072 tokens with a base of 5,000,000; copies of its config with the default base exist.
 * The file is followed, and long prompts will show which is right.
 */
function withBaseWarning(settings: DecoderSettings, file: string): DecoderSettings {
  if (settings.ropeBase !== 10_000 || settings.contextLength <= 32_768) return settings;
  const message = `${file}: rope base 10000 with a context of ${settings.contextLength} tokens; long prompts may suffer`;
  return { ...settings, warnings: [...settings.warnings, { code: 'rope_base', message }] };
}

export function hasQkvBias(checkpoint: Checkpoint): boolean {
  return checkpoint.tensors.has('blk.0.attn_qkv.bias') || checkpoint.tensors.has('blk.0.attn_q.bias');
}

/** Gate rows come first, then as many up rows. */
export function withFusedGateUp(
  tensors: DenseTensors,
  name: string,
  { intermediateSize }: DecoderSettings,
): DenseTensors {
  const total = 2 * intermediateSize;
  return {
    ...tensors,
    gate: { name, rows: { first: 0, total } },
    up: { name, rows: { first: intermediateSize, total } },
  };
}

/** All q heads, then all k heads, then all v heads. */
function withFusedQkv(tensors: DenseTensors, name: string, settings: DecoderSettings): DenseTensors {
  const numQRows = settings.numQHeads * settings.headDim;
  const numKRows = settings.numKvHeads * settings.headDim;
  const total = numQRows + numKRows + settings.numKvHeads * settings.valueDim;
  return {
    ...tensors,
    q: { name, rows: { first: 0, total } },
    k: { name, rows: { first: numQRows, total } },
    v: { name, rows: { first: numQRows + numKRows, total } },
  };
}
