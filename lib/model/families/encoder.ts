import type { Activation } from '../../native/abi';
import type { AttentionSpec, DecoderSpec, LayerSpec, NormSpec } from '../../native/decoder-spec';
import type { Checkpoint } from '../checkpoint-types';
import { unusedTensorsWarning } from './dense-decoder';
import type { DecoderDescription } from './family';
import { type RowRange, WeightMap } from './weight-map';

/** What a config says about an encoder, whichever format it was read from. */
export interface EncoderSettings {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly epsilon: number;
  readonly activation: Activation;
  /** Tokens of one input. */
  readonly contextLength: number;
  /** Rows of the stored positions, and how many of them come before position 0. */
  readonly positionRows: RowRange;
  readonly numTokenTypes: number;
}

/** Names of an encoder's tensors, without `.weight` or `.bias`; within a layer they follow `layerPrefix`. */
export interface EncoderTensors {
  readonly embedding: string;
  readonly positions: string;
  readonly tokenTypes: string;
  readonly embeddingNorm: string;
  readonly layerPrefix: (layer: number) => string;
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly o: string;
  readonly attentionNorm: string;
  readonly up: string;
  readonly down: string;
  readonly mlpNorm: string;
}

/** Buffers, and heads of other tasks than the one the checkpoint is loaded for. */
const IGNORABLE =
  /position_ids$|^(cls|lm_head|classifier)\.|^((bert|roberta)\.)?pooler\.|^rope_freqs|^cls(\.output)?\.(weight|bias)$/;

/** BERT and its kin: bidirectional attention, learned positions, norms behind the sub-layers, a bias everywhere. */
export function describeEncoder(
  checkpoint: Checkpoint,
  settings: EncoderSettings,
  tensors: EncoderTensors,
  family: string,
  name: string | null,
): DecoderDescription {
  const weights = new WeightMap(checkpoint);
  const { vocabSize, hiddenSize, contextLength, numTokenTypes, positionRows } = settings;
  weights.matrix('embedding', `${tensors.embedding}.weight`, [vocabSize, hiddenSize]);
  weights.matrix('position_embedding', `${tensors.positions}.weight`, [contextLength, hiddenSize], {
    rows: positionRows,
  });
  if (numTokenTypes > 0)
    weights.matrix('token_type_embedding', `${tensors.tokenTypes}.weight`, [numTokenTypes, hiddenSize]);
  mapNorm(weights, 'embedding_norm', tensors.embeddingNorm, hiddenSize);
  for (let layer = 0; layer < settings.numLayers; layer += 1) mapLayer(weights, layer, settings, tensors);
  return {
    spec: encoderSpec(settings),
    tensors: weights.tensors,
    info: {
      family,
      name,
      numParameters: weights.numParameters,
      warnings: unusedTensorsWarning(checkpoint, weights, IGNORABLE),
    },
  };
}

function mapNorm(weights: WeightMap, role: string, name: string, length: number): void {
  weights.vector(role, `${name}.weight`, length);
  weights.vector(`${role}.bias`, `${name}.bias`, length);
}

function mapLayer(
  weights: WeightMap,
  layer: number,
  { hiddenSize, intermediateSize }: EncoderSettings,
  tensors: EncoderTensors,
): void {
  const prefix = tensors.layerPrefix(layer);
  const linear = (role: string, name: string, out: number, columns: number): void => {
    weights.matrix(`layers.${layer}.${role}`, `${prefix}${name}.weight`, [out, columns]);
    weights.vector(`layers.${layer}.${role}.bias`, `${prefix}${name}.bias`, out);
  };
  linear('attention.q', tensors.q, hiddenSize, hiddenSize);
  linear('attention.k', tensors.k, hiddenSize, hiddenSize);
  linear('attention.v', tensors.v, hiddenSize, hiddenSize);
  linear('attention.o', tensors.o, hiddenSize, hiddenSize);
  mapNorm(weights, `layers.${layer}.attention_norm`, `${prefix}${tensors.attentionNorm}`, hiddenSize);
  linear('mlp.up', tensors.up, intermediateSize, hiddenSize);
  linear('mlp.down', tensors.down, hiddenSize, intermediateSize);
  mapNorm(weights, `layers.${layer}.mlp_norm`, `${prefix}${tensors.mlpNorm}`, hiddenSize);
}

function encoderSpec(settings: EncoderSettings): DecoderSpec {
  const { hiddenSize, numHeads, intermediateSize, activation } = settings;
  const headDim = hiddenSize / numHeads;
  const norm: NormSpec = { kind: 'layer', epsilon: settings.epsilon, hasUnitOffset: false, hasBias: true };
  const attention: AttentionSpec = {
    numQHeads: numHeads,
    numKvHeads: numHeads,
    headDim,
    valueDim: headDim,
    scale: headDim ** -0.5,
    hasQkvBias: true,
    hasOutputBias: true,
    qkNorm: null,
    slidingWindow: null,
    softCap: null,
    isCausal: false,
    ropeTable: null,
    latent: null,
  };
  const layer: LayerSpec = {
    attention,
    mlp: { kind: 'dense', intermediateSize, isGated: false, activation, hasBias: true },
    normPlacement: 'post',
    norm,
    residualScale: 1,
  };
  return {
    vocabSize: settings.vocabSize,
    hiddenSize,
    contextLength: settings.contextLength,
    embedding: { scale: 1, hasPositions: true, numTokenTypes: settings.numTokenTypes, norm },
    layers: new Array<LayerSpec>(settings.numLayers).fill(layer),
    finalNorm: null,
    head: null,
    pooledLayers: [],
    ropeTables: [],
    ropeSwitchLength: null,
  };
}
