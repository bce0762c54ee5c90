import type { LatentSpec, NormSpec } from '../../native/decoder-spec';
import { type ConfigReader, requireInteger } from '../config-reader';
import { unsupportedModel } from '../model-file-error';
import { type DenseTraits, describeDenseDecoder, PLAIN_TRAITS } from './dense-decoder';
import { ggufExperts, huggingfaceExperts } from './expert-tensors';
import type { Family } from './family';
import { GGUF_LATENTS, HUGGINGFACE_LATENTS } from './latent-tensors';
import { BOUNDS, type DecoderSettings, extraLayers, withoutLastLayers } from './settings/decoder-settings';
import { GGUF_EXPERT_KEYS, readCorrectedExperts, readGgufExperts } from './settings/expert-settings';
import { readGgufSettings } from './settings/gguf-settings';
import { readHuggingfaceSettings } from './settings/huggingface-settings';
import { GGUF_TENSORS, HUGGINGFACE_TENSORS } from './tensor-names';

const TRAITS: DenseTraits = {
  ...PLAIN_TRAITS,
  family: 'glm4_moe_lite',
  ropeStyle: 'interleaved',
  tensors: HUGGINGFACE_TENSORS,
};

/** The norms of the latents have an epsilon of their own, which no config states. */
const LATENT_NORM: NormSpec = { kind: 'rms', epsilon: 1e-6, hasUnitOffset: false, hasBias: false };
const MAX_PREDICTION_LAYERS = 16;

/** GLM-4.7-Flash: latent attention and experts. Its GGUF files are those of DeepSeek-V2 and V3. */
export const glm4MoeLite: Family = {
  name: 'glm4_moe_lite',
  modelTypes: ['glm4_moe_lite'],
  architectures: ['Glm4MoeLiteForCausalLM'],
  ggufArchitectures: ['deepseek2'],

  fromHuggingface(checkpoint, config) {
    const latent = readLatents(config);
    const plain = readHuggingfaceSettings(config, {
      epsilon: 1e-5,
      contextLength: 202_752,
      partialRotaryFactor: 1,
      headDim: latent.ropeDim,
      numKvHeads: null,
    });
    if (plain.headDim !== latent.ropeDim) {
      throw config.fault('head_dim', `${latent.ropeDim}, as qk_rope_head_dim says`, String(plain.headDim));
    }
    if (config.has('rope_parameters.mscale_all_dim') || config.has('rope_scaling.mscale_all_dim')) {
      throw unsupportedModel(config.file, 'the rope setting "mscale_all_dim"', ['rope without it']);
    }
    const settings = withLatents(plain, latent);
    const spec = readCorrectedExperts(config, settings.activation, 1.8);
    const hasBias = config.boolean('attention_bias') ?? false;
    const numPredicting = config.integer('num_nextn_predict_layers', 0, MAX_PREDICTION_LAYERS) ?? 1;
    const traits: DenseTraits = {
      ...TRAITS,
      ropeStyle: (config.boolean('rope_interleave') ?? true) ? 'interleaved' : 'half_split',
      hasQkvBias: hasBias,
      hasOutputBias: hasBias,
      latent: { spec: latent, tensors: HUGGINGFACE_LATENTS },
      experts: {
        spec,
        isSparse: readSparseLayers(config, settings.numLayers),
        tensors: huggingfaceExperts(checkpoint, spec, 'shared_experts'),
      },
      ignorable: extraLayers('model.layers', settings.numLayers, numPredicting),
    };
    return describeDenseDecoder(checkpoint, settings, traits, config.string('_name_or_path'));
  },

  fromGguf(checkpoint, metadata, architecture) {
    const key = (name: string): string => `${architecture}.${name}`;
    const all = readGgufSettings(checkpoint, metadata, architecture, { reads: GGUF_EXPERT_KEYS });
    const maxPredicting = Math.min(all.numLayers - 1, MAX_PREDICTION_LAYERS);
    const numPredicting = metadata.integer(key('nextn_predict_layers'), 0, maxPredicting) ?? 0;
    const ropeDim = requireInteger(metadata, key('rope.dimension_count'), 1, BOUNDS.headDim);
    const headDim = requireInteger(metadata, key('attention.key_length_mla'), ropeDim + 1, BOUNDS.headDim);
    const latent: LatentSpec = {
      queryRank: metadata.integer(key('attention.q_lora_rank'), 1, BOUNDS.hiddenSize),
      rank: requireInteger(metadata, key('attention.kv_lora_rank'), 1, BOUNDS.headDim),
      nopeDim: headDim - ropeDim,
      ropeDim,
      outputDim: requireInteger(metadata, key('attention.value_length_mla'), 1, BOUNDS.headDim),
      norm: LATENT_NORM,
    };
    const settings = withLatents(withoutLastLayers(all, numPredicting), latent);
    const experts = readGgufExperts(metadata, architecture, settings.activation, {
      score: 'softmax',
      normalizesTopK: false,
      hasCorrectionBias: [...checkpoint.tensors.keys()].some((name) => name.endsWith('.exp_probs_b.bias')),
      hasSharedGate: false,
    });
    if (experts.spec.router.score === 'softmax' && experts.spec.router.numGroups > 1) {
      throw unsupportedModel(metadata.file, 'a softmax router with groups of experts', [
        'a sigmoid with groups',
      ]);
    }
    const traits: DenseTraits = {
      ...TRAITS,
      tensors: GGUF_TENSORS,
      latent: { spec: latent, tensors: GGUF_LATENTS },
      experts: { ...experts, tensors: ggufExperts(experts.spec) },
      ignorable: extraLayers('blk', settings.numLayers, numPredicting),
    };
    return describeDenseDecoder(checkpoint, settings, traits, metadata.string('general.name'));
  },
};

function readLatents(config: ConfigReader): LatentSpec {
  const dim = (name: string): number => requireInteger(config, name, 1, BOUNDS.headDim);
  return {
    queryRank: config.integer('q_lora_rank', 1, BOUNDS.hiddenSize),
    rank: dim('kv_lora_rank'),
    nopeDim: dim('qk_nope_head_dim'),
    ropeDim: dim('qk_rope_head_dim'),
    outputDim: dim('v_head_dim'),
    norm: LATENT_NORM,
  };
}

/** One vector per token is cached: rotated dims and latent, the latter being the value. */
function withLatents(settings: DecoderSettings, { rank, nopeDim, ropeDim }: LatentSpec): DecoderSettings {
  return {
    ...settings,
    numKvHeads: 1,
    headDim: ropeDim + rank,
    valueDim: rank,
    attentionScale: (nopeDim + ropeDim) ** -0.5,
  };
}

/** By a list of layer types, else dense layers first. */
function readSparseLayers(config: ConfigReader, numLayers: number): (layer: number) => boolean {
  const key = 'mlp_layer_types';
  const types = config.strings(key);
  if (types === null) {
    const numDense = config.integer('first_k_dense_replace', 0, numLayers) ?? 1;
    return (layer) => layer >= numDense;
  }
  const wrong = types.find((type) => type !== 'dense' && type !== 'sparse');
  if (wrong !== undefined) throw config.fault(key, '"dense" or "sparse" for each layer', wrong);
  if (types.length !== numLayers) {
    throw config.fault(key, `one type for each of the ${numLayers} layers`, `${types.length} types`);
  }
  return (layer) => types[layer] === 'sparse';
}
