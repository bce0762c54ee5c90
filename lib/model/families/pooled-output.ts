import type { NativeTensor } from '../../native/addon';
import { isBidirectional, type PooledLayerSpec } from '../../native/decoder-spec';
import type { Checkpoint, CheckpointWarning, StoredTensor } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import type { GgufMetadata } from '../gguf/metadata';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import type { PoolingName } from '../sentence-transformers';
import type { DecoderDescription } from './family';
import { WeightMap } from './weight-map';

/** What the vector of a `pool` request is. */
export type PooledOutput = EmbeddingOutput | LabelsOutput;

export interface EmbeddingOutput {
  readonly kind: 'embedding';
  /** Null: the files do not say, so the caller has to. */
  readonly pooling: PoolingName | null;
  /** The files ask for vectors of length 1. */
  readonly normalizes: boolean;
  /** Tokens of one input; null for what the context holds. */
  readonly maxLength: number | null;
  readonly prompts: Readonly<Record<string, string>>;
  readonly defaultPrompt: string | null;
}

/** One number per label. */
export interface LabelsOutput {
  readonly kind: 'labels';
  readonly pooling: PoolingName;
  readonly labels: readonly string[];
  /** How the numbers become scores. */
  readonly scoring: 'softmax' | 'sigmoid';
}

export interface ModelDescription extends DecoderDescription {
  readonly pooled: PooledOutput;
}

/** Tensors that only pooled layers use; a family's own description does not know them. */
export const POOLED_TENSORS = /^(score|classifier)\.|(^|\.)pooler\.|^[\w.-]+\/linear\./;

export const isClassifier = (checkpoint: Checkpoint): boolean =>
  architectureOf(checkpoint).endsWith('ForSequenceClassification');

function architectureOf({ config }: Checkpoint): string {
  return config.kind === 'huggingface' ? (config.values.strings('architectures')?.[0] ?? '') : '';
}

/** Adds to a description what makes a vector of its hidden states. */
export function withPooledOutput(checkpoint: Checkpoint, description: DecoderDescription): ModelDescription {
  const { config } = checkpoint;
  if (config.kind === 'gguf') return ggufOutput(checkpoint, config.values, config.architecture, description);
  if (isClassifier(checkpoint)) return classifier(checkpoint, config.values, description);
  const files = checkpoint.sentenceTransformers;
  if (files === null) return { ...description, pooled: UNDECLARED };
  const layers = new PooledLayerList(checkpoint, description);
  for (const { folder, inSize, outSize, hasBias, hasTanh } of files.denseModules) {
    layers.add(`${folder}/linear`, { outSize, hasBias, hasTanh }, inSize);
  }
  const { pooling, normalizes, maxLength, prompts, defaultPrompt } = files;
  const pooled: EmbeddingOutput = {
    kind: 'embedding',
    pooling,
    normalizes,
    maxLength,
    prompts,
    defaultPrompt,
  };
  return { ...layers.description, pooled };
}

const UNDECLARED: EmbeddingOutput = {
  kind: 'embedding',
  pooling: null,
  normalizes: false,
  maxLength: null,
  prompts: {},
  defaultPrompt: null,
};

/** `pooling_type` of GGUF files, by value; they do not say whether to normalize, and every engine does. */
function ggufOutput(
  checkpoint: Checkpoint,
  metadata: GgufMetadata,
  architecture: string,
  description: DecoderDescription,
): ModelDescription {
  const type = metadata.integer(`${architecture}.pooling_type`, 0, RANK) ?? 0;
  // Converters write no type for most classifiers: their heads tell.
  if (type === RANK || (type === 0 && checkpoint.tensors.has(`${GGUF_HEAD}.weight`))) {
    return ggufClassifier(checkpoint, metadata, architecture, description);
  }
  const pooling = ([null, 'mean', 'first', 'last'] as const)[type] ?? null;
  return { ...description, pooled: { ...UNDECLARED, pooling, normalizes: pooling !== null } };
}

const RANK = 4;
/** RoBERTa's two-layer head, or BERT's pooler and classifier: a layer with tanh, and the one to the labels. */
const GGUF_HIDDEN = 'cls';
const GGUF_HEAD = 'cls.output';

function ggufClassifier(
  checkpoint: Checkpoint,
  metadata: GgufMetadata,
  architecture: string,
  description: DecoderDescription,
): ModelDescription {
  const key = `${architecture}.pooling_type`;
  if (!isBidirectional(description.spec)) {
    throw unsupportedModel(
      metadata.file,
      `${key} 4 (rank) of a decoder`,
      ['rank for encoders', '0 (none)', '1 (mean)', '2 (cls)', '3 (last)'],
      'Use the safetensors checkpoint of the reranker.',
    );
  }
  const { tensors } = checkpoint;
  const numLabels = tensors.get(`${GGUF_HEAD}.weight`)?.shape[0] ?? 0;
  if (numLabels < 1 || numLabels > MAX_LABELS || tensors.has('cls.norm.weight')) {
    throw invalidModelFile({
      file: checkpoint.path,
      where: `${key} 4 (rank)`,
      expected: `a head of ${GGUF_HIDDEN} (optional) and ${GGUF_HEAD} with 1..${MAX_LABELS} rows`,
      found: numLabels === 0 ? `no tensor ${GGUF_HEAD}.weight` : `${numLabels} rows, or a norm between them`,
    });
  }
  const layers = new PooledLayerList(checkpoint, description);
  const hasHidden = tensors.has(`${GGUF_HIDDEN}.weight`);
  const hasBias = (name: string): boolean => tensors.has(`${name}.bias`);
  const hidden = { outSize: description.spec.hiddenSize, hasBias: hasBias(GGUF_HIDDEN), hasTanh: true };
  if (hasHidden) layers.add(GGUF_HIDDEN, hidden);
  layers.add(GGUF_HEAD, { outSize: numLabels, hasBias: hasBias(GGUF_HEAD), hasTanh: false });
  const names = metadata.strings(`${architecture}.classifier.output_labels`) ?? [];
  const labels = Array.from({ length: numLabels }, (_, i) => names[i] ?? `LABEL_${i}`);
  const scoring = numLabels === 1 ? 'sigmoid' : 'softmax';
  const { info, ...described } = layers.description;
  const warnings = hasHidden ? info.warnings : [...info.warnings, withoutHidden(checkpoint)];
  return {
    ...described,
    info: { ...info, warnings },
    pooled: { kind: 'labels', pooling: 'first', labels, scoring },
  };
}

function withoutHidden({ path }: Checkpoint): CheckpointWarning {
  const message =
    `${path}: the head is one layer. Converters leave out BERT's pooler: where the published model has one, ` +
    'its scores are others; its safetensors checkpoint gives them.';
  return { code: 'head_without_pooler', message };
}

/** The layers of `pool` requests and their weights, in order. */
class PooledLayerList {
  readonly #description: DecoderDescription;
  readonly #weights: WeightMap;
  readonly #layers: PooledLayerSpec[] = [];

  constructor(
    readonly checkpoint: Checkpoint,
    description: DecoderDescription,
  ) {
    this.#description = description;
    this.#weights = new WeightMap(checkpoint);
  }

  add(name: string, layer: PooledLayerSpec, inSize = this.size): void {
    const role = `pooled.${this.#layers.length}`;
    if (inSize !== this.size) {
      throw invalidModelFile({
        file: this.checkpoint.path,
        where: `module ${quoted(name)}`,
        expected: `${this.size} inputs`,
        found: `${inSize}`,
      });
    }
    this.#weights.matrix(role, `${name}.weight`, [layer.outSize, inSize]);
    if (layer.hasBias) this.#weights.vector(`${role}.bias`, `${name}.bias`, layer.outSize);
    this.#layers.push(layer);
  }

  /** Numbers of the vector so far. */
  get size(): number {
    return this.#layers.at(-1)?.outSize ?? this.#description.spec.hiddenSize;
  }

  get description(): DecoderDescription {
    const { spec, tensors, info } = this.#description;
    const added: readonly NativeTensor[] = this.#weights.tensors;
    return {
      spec: { ...spec, pooledLayers: this.#layers },
      tensors: [...tensors, ...added],
      info: { ...info, numParameters: info.numParameters + this.#weights.numParameters },
    };
  }
}

const MAX_LABELS = 1 << 16;

/** BERT's pooler and classifier, RoBERTa's two-layer head, or the `score` matrix of decoders. */
function classifier(
  checkpoint: Checkpoint,
  config: ConfigReader,
  description: DecoderDescription,
): ModelDescription {
  const layers = new PooledLayerList(checkpoint, description);
  const tensorOf = (name: string): StoredTensor | undefined => checkpoint.tensors.get(`${name}.weight`);
  const head = ['score', 'classifier.out_proj', 'classifier'].find((name) => tensorOf(name) !== undefined);
  const numLabels = head === undefined ? 0 : (tensorOf(head)?.shape[0] ?? 0);
  if (head === undefined || numLabels < 1 || numLabels > MAX_LABELS) {
    throw invalidModelFile({
      file: checkpoint.path,
      where: 'the classification head',
      expected: `a tensor score, classifier or classifier.out_proj of 1..${MAX_LABELS} rows`,
      found: head === undefined ? 'none of them' : `${numLabels} rows`,
    });
  }
  const { hiddenSize } = description.spec;
  const hidden: PooledLayerSpec = { outSize: hiddenSize, hasBias: true, hasTanh: true };
  const pooler = ['bert.pooler.dense', 'pooler.dense'].find((name) => tensorOf(name) !== undefined);
  if (head === 'classifier.out_proj') layers.add('classifier.dense', hidden);
  else if (head === 'classifier' && pooler !== undefined) layers.add(pooler, hidden);
  const hasBias = checkpoint.tensors.has(`${head}.bias`);
  layers.add(head, { outSize: numLabels, hasBias, hasTanh: false });
  const isMultiLabel = config.string('problem_type') === 'multi_label_classification';
  const pooled: LabelsOutput = {
    kind: 'labels',
    pooling: isBidirectional(description.spec) ? 'first' : 'last',
    labels: readLabels(config, numLabels),
    scoring: numLabels === 1 || isMultiLabel ? 'sigmoid' : 'softmax',
  };
  return { ...layers.description, pooled };
}

function readLabels(config: ConfigReader, numLabels: number): readonly string[] {
  return Array.from({ length: numLabels }, (_, i) => config.string(`id2label.${i}`) ?? `LABEL_${i}`);
}
