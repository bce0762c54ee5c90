import type { Activation, ComponentDtype, StoredFormat } from './abi';

/**
 * What one native decoder executes. Families (lib/model/families) produce it; C++ (native/model/decoder_spec.h) mirrors
 * it field by field and knows no family names.
 */
export interface DecoderSpec {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Positions the model was made for. */
  readonly contextLength: number;
  readonly embedding: EmbeddingSpec;
  readonly layers: readonly LayerSpec[];
  /** Null when the last layer's output is used as it is. */
  readonly finalNorm: NormSpec | null;
  /** Null for encoders: they answer `pool` requests only. */
  readonly head: HeadSpec | null;
  /** Applied in order to the vector of a `pool` request: classification heads, dense modules of embedding models. */
  readonly pooledLayers: readonly PooledLayerSpec[];
  /** Referred to by index: `AttentionSpec.ropeTable` for families whose layers differ, else 0. */
  readonly ropeTables: readonly RopeTable[];
  /**
   * Sequences that may grow longer than this use, in every layer, the table after the layer's own; null where length
   * changes nothing. Native reads the choice from each admission, not this field.
   */
  readonly ropeSwitchLength: number | null;
}

export interface EmbeddingSpec {
  /** Multiplies the gathered row; 1 for most, sqrt(hiddenSize) for Gemma. */
  readonly scale: number;
  /** Learned absolute positions, role `position_embedding`. */
  readonly hasPositions: boolean;
  /** Rows of role `token_type_embedding` (BERT's segments); 0 for none. */
  readonly numTokenTypes: number;
  /** Norm applied to the embedding (BERT), roles `embedding_norm[.bias]`. */
  readonly norm: NormSpec | null;
}

export interface HeadSpec {
  /** The head multiplies by the embedding matrix; role `head` is absent. */
  readonly isTied: boolean;
  readonly hasBias: boolean;
  /** logits = softCap * tanh(logits / softCap). */
  readonly softCap: number | null;
  readonly scale: number;
}

/** y = W x + b, then tanh where the layer has one; roles `pooled.N`, `pooled.N.bias`. */
export interface PooledLayerSpec {
  readonly outSize: number;
  readonly hasBias: boolean;
  readonly hasTanh: boolean;
}

export interface NormSpec {
  readonly kind: 'rms' | 'layer';
  readonly epsilon: number;
  /** The weight is stored as w - 1 (Gemma). */
  readonly hasUnitOffset: boolean;
  readonly hasBias: boolean;
}

export interface LayerSpec {
  readonly attention: AttentionSpec;
  readonly mlp: MlpSpec | MoeSpec;
  /**
   * pre: x += f(norm(x)). sandwich: x += postNorm(f(norm(x))). post: x = norm(x + f(x)).
   * Roles: `attention_norm`, `attention_post_norm`, `mlp_norm`, `mlp_post_norm`.
   */
  readonly normPlacement: 'pre' | 'sandwich' | 'post';
  readonly norm: NormSpec;
  /** Multiplies each sub-layer's output before it is added; 1 for most. */
  readonly residualScale: number;
}

export interface AttentionSpec {
  readonly numQHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
  /** Multiplies q.k, usually headDim ** -0.5. */
  readonly scale: number;
  readonly hasQkvBias: boolean;
  readonly hasOutputBias: boolean;
  /** Per-head norm of q and k before rope, roles `attention.q_norm`, `attention.k_norm`. */
  readonly qkNorm: NormSpec | null;
  /** Tokens visible including the current one; null for all. */
  readonly slidingWindow: number | null;
  readonly softCap: number | null;
  /** False: every token sees all others, so an input is computed in one step or not at all. */
  readonly isCausal: boolean;
  /** Index into DecoderSpec.ropeTables; null for no rotary embedding. */
  readonly ropeTable: number | null;
  /** Null: q, k and v are products of the hidden state. */
  readonly latent: LatentSpec | null;
}

/**
 * Multi-head latent attention. One vector per token is cached, [ropeDim rotated dims | rank dims of latent]: the key of
 * all query heads, whose latent part is their value, too. A query head's unrotated part q and the attended latent c meet
 * it through two matrices per head: k_b q is compared with the latent, v_b c is the head's output.
 * The AttentionSpec describes what is cached: numKvHeads 1, headDim ropeDim + rank, valueDim rank; `scale` is the
 * model's own; no qkNorm. Roles: `attention.q_a`, `attention.q_a_norm`, `attention.q_b` (or `attention.q` when queryRank
 * is null), `attention.kv_a`, `attention.kv_a_norm`, `attention.k_b.H`, `attention.v_b.H` (H = head), `attention.o`;
 * hasQkvBias gives `q_a` (or `q`) and `kv_a` a bias.
 */
export interface LatentSpec {
  /** Width of the queries' own latent; null: queries are one product of the hidden state. */
  readonly queryRank: number | null;
  /** Width of the cached latent. Row order of `kv_a`: the ropeDim rotated rows, then these. */
  readonly rank: number;
  /** Dims of a query head; rows of `q_b` (or `q`): for each head nopeDim, then ropeDim. `k_b.H` is [rank, nopeDim]. */
  readonly nopeDim: number;
  readonly ropeDim: number;
  /** Outputs per head: `v_b.H` is [outputDim, rank], `o` is [hiddenSize, numQHeads * outputDim]. */
  readonly outputDim: number;
  /** Of both latents. */
  readonly norm: NormSpec;
}

export interface RopeTable {
  /** Rotated leading dims of each head; the others pass through. Even. */
  readonly rotaryDim: number;
  /** `interleaved` rotates pairs (2i, 2i+1); `half_split` pairs (i, i + rotaryDim / 2). */
  readonly style: 'interleaved' | 'half_split';
  /** Radians per position, [rotaryDim / 2], computed in float64 with any scaling applied. */
  readonly frequencies: Float64Array;
  /** Multiplies cos and sin (yarn, longrope); else 1. */
  readonly attentionFactor: number;
}

export interface MlpSpec {
  readonly kind: 'dense';
  readonly intermediateSize: number;
  /** down(act(gate(x)) * up(x)) when gated, else down(act(up(x))). */
  readonly isGated: boolean;
  readonly activation: Activation;
  readonly hasBias: boolean;
}

/**
 * Mixture of experts: the router scores every expert, the best numExpertsPerToken run, and
 * out = sum of weight_e * expert_e(x), plus the shared expert.
 * Roles: `mlp.router`, `mlp.router.bias` (the correction bias), `mlp.experts.E.{gate,up,down}` (E = expert),
 * `mlp.shared.{gate,up,down}`, `mlp.shared_gate`.
 */
export interface MoeSpec {
  readonly kind: 'moe';
  readonly numExperts: number;
  readonly numExpertsPerToken: number;
  /** Of each expert; all are gated. */
  readonly intermediateSize: number;
  /** Of the expert that every token runs through; 0 for none. */
  readonly sharedIntermediateSize: number;
  /** The shared expert's output is multiplied by sigmoid(shared_gate x), `shared_gate` being [1, hiddenSize]. */
  readonly hasSharedGate: boolean;
  readonly activation: Activation;
  readonly router: RouterSpec;
}

export interface RouterSpec {
  /** Of the products with `mlp.router`: over all experts, or each by itself. */
  readonly score: 'softmax' | 'sigmoid';
  /** Added to the scores for choosing, not for weighing. */
  readonly hasCorrectionBias: boolean;
  /** Experts lie in groups of equal size, each as good as its two best; only the topGroups best are chosen from. */
  readonly numGroups: number;
  readonly topGroups: number;
  /** The weights of a token's experts are divided by their sum. */
  readonly normalizesTopK: boolean;
  /** Multiplies the weights, after normalisation. */
  readonly scale: number;
}

/**
 * Where one matrix or vector comes from. The file bytes are read with pread and repacked; nothing is mapped.
 *
 * Roles (N = layer index): `embedding`, `position_embedding`, `token_type_embedding`, `embedding_norm`, `final_norm`,
 * `head`, `head.bias`, `pooled.N`,
 * `layers.N.attention_norm`, `layers.N.attention_post_norm`, `layers.N.mlp_norm`, `layers.N.mlp_post_norm`,
 * `layers.N.attention.{q,k,v,o}`, `layers.N.attention.{q_norm,k_norm}`, `layers.N.mlp.{gate,up,down}`, and those of
 * LatentSpec and MoeSpec; each norm and matrix may have `<role>.bias`.
 * Fused tensors of a checkpoint (query_key_value, gate_up_proj) are given as several roles whose slices cover its rows.
 */
export interface WeightSource {
  readonly format: StoredFormat;
  /** [out, in] for matrices, [length] for vectors, in elements. */
  readonly shape: readonly number[];
  readonly slices: readonly FileSlice[];
  /**
   * Row r of the logical matrix is row `rowOrder[r]` of the stored one: undoes the q/k row permutation of `llama` GGUF
   * files. Null for the stored order.
   */
  readonly rowOrder: Int32Array | null;
  /** Stored as [in, out] (GPT-2's Conv1D). */
  readonly isTransposed: boolean;
  /** Of formats whose scales lie in tensors of their own; `slices` then holds the codes of the whole stored matrix. */
  readonly quantization?: Quantization;
}

/** How codes become weights: (code - zero) * scale. */
export interface Quantization {
  /** Rows of the whole stored matrix; the source has those from `firstRow` on. */
  readonly storedRows: number;
  readonly firstRow: number;
  /** Rows and columns that share a scale. */
  readonly groupRows: number;
  readonly groupColumns: number;
  /** Every zero is the middle of the codes' range; zeros that are stored all the same must agree. */
  readonly isSymmetric: boolean;
  /** Groups are runs of columns; else `groupIndex` names the group of each column (act-order). */
  readonly hasOrderedGroups: boolean;
  /** Zeros are stored less one (GPTQ v1). */
  readonly hasZerosLessOne: boolean;
  /** GPTQ and AWQ: [groups, out], others: [out / groupRows, groups]. */
  readonly scales: Component;
  /** GPTQ and AWQ: [groups, words], packed: [words, groups], int8: as the scales. */
  readonly zeros: Component | null;
  /** [1, in] */
  readonly groupIndex: Component | null;
}

/** Floats of the answer to a `pool` request. */
export function pooledSizeOf({ pooledLayers, hiddenSize }: DecoderSpec): number {
  return pooledLayers.at(-1)?.outSize ?? hiddenSize;
}

export function isBidirectional({ layers }: DecoderSpec): boolean {
  return layers.some(({ attention }) => !attention.isCausal);
}

export interface FileSlice {
  /** Index into NativeLoadRequest.files. */
  readonly file: number;
  readonly offset: number;
  readonly byteLength: number;
}

/** A tensor that belongs to a quantized matrix. */
export interface Component extends FileSlice {
  readonly dtype: ComponentDtype;
  readonly shape: readonly [number, number];
}
