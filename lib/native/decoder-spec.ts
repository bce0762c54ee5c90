import type { Activation, StoredFormat } from './abi';

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
  readonly head: HeadSpec;
  /** Referred to by index: `AttentionSpec.ropeTable` for families whose layers differ, else 0. */
  readonly ropeTables: readonly RopeTable[];
}

export interface EmbeddingSpec {
  /** Multiplies the gathered row; 1 for most, sqrt(hiddenSize) for Gemma. */
  readonly scale: number;
  /** Learned absolute positions, role `position_embedding`. */
  readonly hasPositions: boolean;
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
  readonly isCausal: boolean;
  /** Index into DecoderSpec.ropeTables; null for no rotary embedding. */
  readonly ropeTable: number | null;
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

/** Mixture of experts. The native decoder of ABI 1 refuses it with `unsupported_model`. */
export interface MoeSpec {
  readonly kind: 'moe';
  readonly numExperts: number;
  readonly numExpertsPerToken: number;
  readonly intermediateSize: number;
  readonly sharedIntermediateSize: number;
  readonly activation: Activation;
  readonly router: {
    readonly score: 'softmax' | 'sigmoid';
    readonly hasCorrectionBias: boolean;
    readonly numGroups: number;
    readonly topGroups: number;
    readonly normalizesTopK: boolean;
    readonly scale: number;
  };
}

/**
 * Where one matrix or vector comes from. The file bytes are read with pread and repacked; nothing is mapped.
 *
 * Roles (N = layer index): `embedding`, `position_embedding`, `embedding_norm`, `final_norm`, `head`, `head.bias`,
 * `layers.N.attention_norm`, `layers.N.attention_post_norm`, `layers.N.mlp_norm`, `layers.N.mlp_post_norm`,
 * `layers.N.attention.{q,k,v,o}`, `layers.N.attention.{q_norm,k_norm}`, `layers.N.mlp.{gate,up,down}`; each norm and
 * matrix may have `<role>.bias`.
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
}

export interface FileSlice {
  /** Index into NativeLoadRequest.files. */
  readonly file: number;
  readonly offset: number;
  readonly byteLength: number;
}
