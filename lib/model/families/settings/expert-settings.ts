import type { Activation } from '../../../native/abi';
import type { MoeSpec } from '../../../native/decoder-spec';
import { type ConfigReader, requireInteger } from '../../config-reader';
import type { GgufMetadata } from '../../gguf/metadata';
import { unsupportedModel } from '../../model-file-error';
import { BOUNDS, positive } from './decoder-settings';

/** What a config says about a mixture of experts, whichever format it was read from. */
export interface ExpertSettings {
  readonly spec: MoeSpec;
  /** The other layers are dense. */
  readonly isSparse: (layer: number) => boolean;
}

/** Keys that the rules between settings are reported at. */
export interface ExpertKeys {
  readonly numExpertsPerToken: string;
  readonly numGroups: string;
  readonly topGroups: string;
}

/** Every token finds its experts: within the model, and within the groups it may choose from. */
export function checkedExperts(reader: ConfigReader, keys: ExpertKeys, spec: MoeSpec): MoeSpec {
  const { numExperts, numExpertsPerToken, router } = spec;
  if (numExpertsPerToken > numExperts) {
    const expected = `at most the model's ${numExperts} experts`;
    throw reader.fault(keys.numExpertsPerToken, expected, String(numExpertsPerToken));
  }
  if (numExperts % router.numGroups !== 0) {
    throw reader.fault(keys.numGroups, `a divisor of the ${numExperts} experts`, String(router.numGroups));
  }
  if (router.topGroups > router.numGroups) {
    throw reader.fault(keys.topGroups, `at most the ${router.numGroups} groups`, String(router.topGroups));
  }
  const numCandidates = (numExperts / router.numGroups) * router.topGroups;
  if (numExpertsPerToken > numCandidates) {
    const expected = `at most the ${numCandidates} experts of ${router.topGroups} groups`;
    throw reader.fault(keys.numExpertsPerToken, expected, String(numExpertsPerToken));
  }
  return spec;
}

/** The keys that GLM and DeepSeek configs share: a sigmoid with correction, groups, a shared expert. */
export function readCorrectedExperts(
  config: ConfigReader,
  activation: Activation,
  scaleWhenAbsent: number,
): MoeSpec {
  const intermediateSize = requireInteger(config, 'moe_intermediate_size', 1, BOUNDS.intermediateSize);
  const numShared = config.integer('n_shared_experts', 0, BOUNDS.experts) ?? 1;
  const sharedIntermediateSize = numShared * intermediateSize;
  if (sharedIntermediateSize > BOUNDS.intermediateSize) {
    const expected = `shared experts no wider than ${BOUNDS.intermediateSize} together`;
    throw config.fault('n_shared_experts', expected, String(sharedIntermediateSize));
  }
  const keys = { numExpertsPerToken: 'num_experts_per_tok', numGroups: 'n_group', topGroups: 'topk_group' };
  return checkedExperts(config, keys, {
    kind: 'moe',
    numExperts: requireInteger(config, 'n_routed_experts', 1, BOUNDS.experts),
    numExpertsPerToken: requireInteger(config, 'num_experts_per_tok', 1, BOUNDS.experts),
    intermediateSize,
    sharedIntermediateSize,
    hasSharedGate: false,
    activation,
    router: {
      score: 'sigmoid',
      hasCorrectionBias: true,
      numGroups: config.integer('n_group', 1, BOUNDS.experts) ?? 1,
      topGroups: config.integer('topk_group', 1, BOUNDS.experts) ?? 1,
      normalizesTopK: config.boolean('norm_topk_prob') ?? true,
      scale: positive(config, 'routed_scaling_factor') ?? scaleWhenAbsent,
    },
  });
}

/** The keys that Qwen's mixtures share: a softmax, dense layers by list and by step. */
export function readQwenExperts(
  config: ConfigReader,
  activation: Activation,
  shared: Pick<MoeSpec, 'sharedIntermediateSize' | 'hasSharedGate'>,
): ExpertSettings {
  const countKey = config.has('num_experts') ? 'num_experts' : 'num_local_experts';
  const keys = { numExpertsPerToken: 'num_experts_per_tok', numGroups: '', topGroups: '' };
  const spec = checkedExperts(config, keys, {
    kind: 'moe',
    numExperts: requireInteger(config, countKey, 1, BOUNDS.experts),
    numExpertsPerToken: requireInteger(config, 'num_experts_per_tok', 1, BOUNDS.experts),
    intermediateSize: requireInteger(config, 'moe_intermediate_size', 1, BOUNDS.intermediateSize),
    ...shared,
    activation,
    router: {
      score: 'softmax',
      hasCorrectionBias: false,
      numGroups: 1,
      topGroups: 1,
      normalizesTopK: config.boolean('norm_topk_prob') ?? false,
      scale: 1,
    },
  });
  const step = config.integer('decoder_sparse_step', 1, BOUNDS.layers) ?? 1;
  const dense = new Set(config.numbers('mlp_only_layers') ?? []);
  return { spec, isSparse: (layer) => !dense.has(layer) && (layer + 1) % step === 0 };
}

/** What a GGUF architecture means when its file leaves a key out, and what no key says. */
export interface GgufExpertDefaults {
  readonly score: 'softmax' | 'sigmoid';
  readonly normalizesTopK: boolean;
  readonly hasCorrectionBias: boolean;
  readonly hasSharedGate: boolean;
}

/** `expert_gating_func`, by its numbers. */
const GATING_FUNCTIONS: ReadonlyMap<number, 'softmax' | 'sigmoid'> = new Map([
  [1, 'softmax'],
  [2, 'sigmoid'],
]);

/** Keys of GGUF files that `readGgufExperts` reads: for GgufVariations.reads. */
export const GGUF_EXPERT_KEYS: readonly string[] = ['expert_count'];

/** Reads the keys that mixtures of experts share in GGUF. */
export function readGgufExperts(
  metadata: GgufMetadata,
  architecture: string,
  activation: Activation,
  defaults: GgufExpertDefaults,
): ExpertSettings {
  const key = (name: string): string => `${architecture}.${name}`;
  const integer = (name: string, min: number, max: number): number | null =>
    metadata.integer(key(name), min, max);
  const intermediateSize =
    integer('expert_feed_forward_length', 1, BOUNDS.intermediateSize) ??
    requireInteger(metadata, key('feed_forward_length'), 1, BOUNDS.intermediateSize);
  const numDense = integer('leading_dense_block_count', 0, BOUNDS.layers) ?? 0;
  const keys = {
    numExpertsPerToken: key('expert_used_count'),
    numGroups: key('expert_group_count'),
    topGroups: key('expert_group_used_count'),
  };
  const spec = checkedExperts(metadata, keys, {
    kind: 'moe',
    numExperts: requireInteger(metadata, key('expert_count'), 1, BOUNDS.experts),
    numExpertsPerToken: requireInteger(metadata, keys.numExpertsPerToken, 1, BOUNDS.experts),
    intermediateSize,
    sharedIntermediateSize: readSharedSize(metadata, key, intermediateSize),
    hasSharedGate: defaults.hasSharedGate,
    activation,
    router: {
      score: readGatingFunction(metadata, key('expert_gating_func')) ?? defaults.score,
      hasCorrectionBias: defaults.hasCorrectionBias,
      numGroups: Math.max(1, integer('expert_group_count', 0, BOUNDS.experts) ?? 1),
      topGroups: Math.max(1, integer('expert_group_used_count', 0, BOUNDS.experts) ?? 1),
      normalizesTopK: metadata.boolean(key('expert_weights_norm')) ?? defaults.normalizesTopK,
      scale: readScale(metadata, key('expert_weights_scale')),
    },
  });
  return { spec, isSparse: (layer) => layer >= numDense };
}

function readSharedSize(
  metadata: GgufMetadata,
  key: (name: string) => string,
  intermediateSize: number,
): number {
  const stated = metadata.integer(key('expert_shared_feed_forward_length'), 0, BOUNDS.intermediateSize);
  if (stated !== null) return stated;
  const numShared = metadata.integer(key('expert_shared_count'), 0, BOUNDS.experts) ?? 0;
  const size = numShared * intermediateSize;
  if (size <= BOUNDS.intermediateSize) return size;
  const expected = `shared experts no wider than ${BOUNDS.intermediateSize} together`;
  throw metadata.fault(key('expert_shared_count'), expected, String(size));
}

/** 0 stands for "not given". */
function readGatingFunction(metadata: GgufMetadata, key: string): 'softmax' | 'sigmoid' | null {
  const number = metadata.integer(key, 0, 255) ?? 0;
  if (number === 0) return null;
  const score = GATING_FUNCTIONS.get(number);
  if (score !== undefined) return score;
  throw unsupportedModel(metadata.file, `router function ${number} (key "${key}")`, [
    '1 (softmax)',
    '2 (sigmoid)',
  ]);
}

/** 0 stands for "not given". */
function readScale(metadata: GgufMetadata, key: string): number {
  const scale = metadata.number(key) ?? 0;
  if (scale < 0) throw metadata.fault(key, 'a number of at least 0', String(scale));
  return scale === 0 ? 1 : scale;
}
