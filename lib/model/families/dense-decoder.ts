import type {
  AttentionSpec,
  DecoderSpec,
  LayerSpec,
  MlpSpec,
  NormSpec,
  RopeTable,
} from '../../native/decoder-spec';
import type { Checkpoint, CheckpointWarning } from '../checkpoint-types';
import { type ExpertLayers, mapExperts } from './expert-tensors';
import type { DecoderDescription } from './family';
import { type LatentLayers, mapLatents } from './latent-tensors';
import { isClassifier, POOLED_TENSORS } from './pooled-output';
import type { DecoderSettings } from './settings/decoder-settings';
import { ropeTables } from './settings/rope-scaling';
import { firstNames, type RowRange, WeightMap } from './weight-map';

/** A tensor, without `.weight` or `.bias`, and the rows of it that a role takes. */
export interface TensorPart {
  readonly name: string;
  readonly rows?: RowRange;
}

/** What sets a family of decoders apart from the others. */
export interface DenseTraits {
  readonly family: string;
  readonly norm: Pick<NormSpec, 'kind' | 'hasUnitOffset' | 'hasBias'>;
  readonly ropeStyle: RopeTable['style'];
  readonly hasQkNorm: boolean;
  readonly hasQkvBias: boolean;
  readonly hasOutputBias: boolean;
  readonly hasMlpBias: boolean;
  readonly tensors: DenseTensors;
  /** The layers' matrices are stored as [in, out]. */
  readonly isTransposed: boolean;
  /** Where q and k rows are stored when not in order; by number of heads. */
  readonly rowOrder: ((numHeads: number, headDim: number) => Int32Array) | null;
  /** Null: q, k and v are products of the hidden state. */
  readonly latent: LatentLayers | null;
  /** Null: every layer is dense. */
  readonly experts: ExpertLayers | null;
  /** Tensors that may be left over without a warning. */
  readonly ignorable: RegExp | null;
}

/** What most families have in common. */
export const PLAIN_TRAITS: Omit<DenseTraits, 'family' | 'tensors'> = {
  norm: { kind: 'rms', hasUnitOffset: false, hasBias: false },
  ropeStyle: 'half_split',
  hasQkNorm: false,
  hasQkvBias: false,
  hasOutputBias: false,
  hasMlpBias: false,
  isTransposed: false,
  rowOrder: null,
  latent: null,
  experts: null,
  ignorable: null,
};

/** Names of a family's tensors; within a layer they follow `layerPrefix`. */
export interface DenseTensors {
  readonly embedding: string;
  /** Learned positions; null for models that rotate. */
  readonly positions: string | null;
  readonly finalNorm: string;
  readonly head: string;
  readonly layerPrefix: (layer: number) => string;
  readonly attentionNorm: string;
  /** Both post norms, or neither: they make the placement `sandwich`. */
  readonly attentionPostNorm: string | null;
  readonly mlpNorm: string;
  readonly mlpPostNorm: string | null;
  readonly q: TensorPart;
  readonly k: TensorPart;
  readonly v: TensorPart;
  readonly o: TensorPart;
  readonly qNorm: string;
  readonly kNorm: string;
  /** Null: down(act(up(x))). */
  readonly gate: TensorPart | null;
  readonly up: TensorPart;
  readonly down: TensorPart;
}

/** Turns settings and traits into the decoder's spec and its weights. */
export function describeDenseDecoder(
  checkpoint: Checkpoint,
  settings: DecoderSettings,
  traits: DenseTraits,
  name: string | null,
): DecoderDescription {
  const weights = new WeightMap(checkpoint);
  const { vocabSize, hiddenSize, contextLength } = settings;
  const { tensors } = traits;
  weights.matrix('embedding', `${tensors.embedding}.weight`, [vocabSize, hiddenSize]);
  if (tensors.positions !== null) {
    weights.matrix('position_embedding', `${tensors.positions}.weight`, [contextLength, hiddenSize]);
  }
  mapNorm(weights, 'final_norm', tensors.finalNorm, hiddenSize, traits.norm.hasBias);
  const isTied = settings.isTied ?? !weights.has(`${tensors.head}.weight`);
  const hasHead = hasLanguageHead(checkpoint, tensors.head, isTied);
  if (hasHead && !isTied) weights.matrix('head', `${tensors.head}.weight`, [vocabSize, hiddenSize]);
  else weights.use(`${tensors.head}.weight`);
  for (let layer = 0; layer < settings.numLayers; layer += 1) mapLayer(weights, layer, settings, traits);
  for (const vector of checkpoint.ropeVectors.keys()) weights.use(vector);
  return {
    spec: { ...decoderSpec(settings, traits, isTied), ...(hasHead ? {} : { head: null }) },
    tensors: weights.tensors,
    info: {
      family: traits.family,
      name,
      numParameters: weights.numParameters,
      warnings: [...settings.warnings, ...unusedTensorsWarning(checkpoint, weights, traits.ignorable)],
    },
  };
}

/** Classifiers have none, and decoders saved for embeddings may have none; every other file must have one. */
function hasLanguageHead(checkpoint: Checkpoint, head: string, isTied: boolean): boolean {
  const { config, tensors } = checkpoint;
  if (isClassifier(checkpoint)) return false;
  const isBare =
    config.kind === 'huggingface' && (config.values.strings('architectures')?.[0] ?? '').endsWith('Model');
  return !isBare || isTied || tensors.has(`${head}.weight`);
}

function mapNorm(weights: WeightMap, role: string, name: string, length: number, hasBias: boolean): void {
  weights.vector(role, `${name}.weight`, length);
  if (hasBias) weights.vector(`${role}.bias`, `${name}.bias`, length);
}

function mapLayer(weights: WeightMap, layer: number, settings: DecoderSettings, traits: DenseTraits): void {
  const { hiddenSize, headDim, intermediateSize } = settings;
  const { tensors, isTransposed } = traits;
  const prefix = tensors.layerPrefix(layer);
  const norm = (role: string, name: string | null, length: number): void => {
    if (name === null) return;
    mapNorm(weights, `layers.${layer}.${role}`, `${prefix}${name}`, length, traits.norm.hasBias);
  };
  const linear = (
    role: string,
    { name, rows }: TensorPart,
    out: number,
    columns: number,
    rowOrder?: Int32Array,
  ): void => {
    const path = `layers.${layer}.${role}`;
    weights.matrix(path, `${prefix}${name}.weight`, [out, columns], { rows, rowOrder, isTransposed });
    if (hasBias(role, traits))
      weights.vector(`${path}.bias`, `${prefix}${name}.bias`, out, { rows, rowOrder });
  };
  norm('attention_norm', tensors.attentionNorm, hiddenSize);
  norm('attention_post_norm', tensors.attentionPostNorm, hiddenSize);
  norm('mlp_norm', tensors.mlpNorm, hiddenSize);
  norm('mlp_post_norm', tensors.mlpPostNorm, hiddenSize);
  if (traits.hasQkNorm) {
    norm('attention.q_norm', tensors.qNorm, headDim);
    norm('attention.k_norm', tensors.kNorm, headDim);
  }
  const mapMlp = (): void => {
    if (traits.experts?.isSparse(layer)) {
      mapExperts(weights, layer, prefix, traits.experts, hiddenSize);
      return;
    }
    if (tensors.gate !== null) linear('mlp.gate', tensors.gate, intermediateSize, hiddenSize);
    linear('mlp.up', tensors.up, intermediateSize, hiddenSize);
    linear('mlp.down', tensors.down, hiddenSize, intermediateSize);
  };
  const { numQHeads, numKvHeads, valueDim } = settings;
  if (traits.latent !== null) {
    mapLatents(weights, layer, prefix, traits.latent, { ...traits, numHeads: numQHeads, hiddenSize });
    mapMlp();
    return;
  }
  linear('attention.q', tensors.q, numQHeads * headDim, hiddenSize, traits.rowOrder?.(numQHeads, headDim));
  linear('attention.k', tensors.k, numKvHeads * headDim, hiddenSize, traits.rowOrder?.(numKvHeads, headDim));
  linear('attention.v', tensors.v, numKvHeads * valueDim, hiddenSize);
  linear('attention.o', tensors.o, hiddenSize, numQHeads * valueDim);
  mapMlp();
}

function hasBias(role: string, traits: DenseTraits): boolean {
  if (role.startsWith('mlp.')) return traits.hasMlpBias;
  return role === 'attention.o' ? traits.hasOutputBias : traits.hasQkvBias;
}

function decoderSpec(settings: DecoderSettings, traits: DenseTraits, isTied: boolean): DecoderSpec {
  const { contextLength, embeddingScale, logitSoftCap } = settings;
  const norm: NormSpec = { ...traits.norm, epsilon: settings.epsilon };
  return {
    vocabSize: settings.vocabSize,
    hiddenSize: settings.hiddenSize,
    contextLength,
    embedding: {
      scale: embeddingScale,
      hasPositions: traits.tensors.positions !== null,
      numTokenTypes: 0,
      norm: null,
    },
    layers: settings.slidingWindows.map((_, layer) => layerSpec(settings, traits, norm, layer)),
    finalNorm: norm,
    head: { isTied, hasBias: false, softCap: logitSoftCap, scale: 1 },
    pooledLayers: [],
    ...ropeTables(traits.ropeStyle, settings.ropes, contextLength),
  };
}

function layerSpec(settings: DecoderSettings, traits: DenseTraits, norm: NormSpec, layer: number): LayerSpec {
  const attention: AttentionSpec = {
    numQHeads: settings.numQHeads,
    numKvHeads: settings.numKvHeads,
    headDim: settings.headDim,
    valueDim: settings.valueDim,
    scale: settings.attentionScale,
    hasQkvBias: traits.hasQkvBias,
    hasOutputBias: traits.hasOutputBias,
    qkNorm: traits.hasQkNorm ? norm : null,
    slidingWindow: settings.slidingWindows[layer] ?? null,
    softCap: settings.attentionSoftCap,
    isCausal: true,
    ropeTable: settings.layerRopes[layer] ?? null,
    latent: traits.latent?.spec ?? null,
  };
  const mlp: MlpSpec = {
    kind: 'dense',
    intermediateSize: settings.intermediateSize,
    isGated: traits.tensors.gate !== null,
    activation: settings.activation,
    hasBias: traits.hasMlpBias,
  };
  return {
    attention,
    mlp: traits.experts?.isSparse(layer) ? traits.experts.spec : mlp,
    normPlacement: traits.tensors.attentionPostNorm === null ? 'pre' : 'sandwich',
    norm,
    residualScale: 1,
  };
}

export function unusedTensorsWarning(
  checkpoint: Checkpoint,
  weights: WeightMap,
  ignorable: RegExp | null,
): readonly CheckpointWarning[] {
  const unused = weights.unusedNames.filter((name) => !ignorable?.test(name) && !POOLED_TENSORS.test(name));
  if (unused.length === 0) return [];
  return [
    {
      code: 'unused_tensors',
      message: `${checkpoint.path}: tensors that the model does not use: ${firstNames(unused)}`,
    },
  ];
}
