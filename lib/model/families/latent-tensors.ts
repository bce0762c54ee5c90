import type { LatentSpec } from '../../native/decoder-spec';
import type { WeightMap } from './weight-map';

/** Latent attention as a checkpoint has it. */
export interface LatentLayers {
  readonly spec: LatentSpec;
  readonly tensors: LatentTensors;
}

/** Names without `.weight` and `.bias`; they follow the layer's prefix. */
export interface LatentTensors {
  readonly q: string;
  readonly qA: string;
  readonly qANorm: string;
  readonly qB: string;
  /** Rows: the latent, then the rotated dims. */
  readonly kvA: string;
  readonly kvANorm: string;
  /**
   * fused: rows of each head's key [nopeDim, rank], then of its value [outputDim, rank].
   * split: stacks by head, [heads, rank, nopeDim] and [heads, outputDim, rank].
   */
  readonly heads:
    | { readonly kind: 'fused'; readonly kvB: string }
    | { readonly kind: 'split'; readonly kB: string; readonly vB: string };
  readonly o: string;
}

export const HUGGINGFACE_LATENTS: LatentTensors = {
  q: 'self_attn.q_proj',
  qA: 'self_attn.q_a_proj',
  qANorm: 'self_attn.q_a_layernorm',
  qB: 'self_attn.q_b_proj',
  kvA: 'self_attn.kv_a_proj_with_mqa',
  kvANorm: 'self_attn.kv_a_layernorm',
  heads: { kind: 'fused', kvB: 'self_attn.kv_b_proj' },
  o: 'self_attn.o_proj',
};

export const GGUF_LATENTS: LatentTensors = {
  q: 'attn_q',
  qA: 'attn_q_a',
  qANorm: 'attn_q_a_norm',
  qB: 'attn_q_b',
  kvA: 'attn_kv_a_mqa',
  kvANorm: 'attn_kv_a_norm',
  heads: { kind: 'split', kB: 'attn_k_b', vB: 'attn_v_b' },
  o: 'attn_output',
};

interface Shape {
  readonly numHeads: number;
  readonly hiddenSize: number;
  readonly hasQkvBias: boolean;
  readonly hasOutputBias: boolean;
}

/** Finds the tensors of one layer's attention. */
export function mapLatents(
  weights: WeightMap,
  layer: number,
  prefix: string,
  { spec, tensors }: LatentLayers,
  shape: Shape,
): void {
  const { numHeads, hiddenSize, hasQkvBias, hasOutputBias } = shape;
  const { queryRank, rank, nopeDim, ropeDim, outputDim } = spec;
  const role = (name: string): string => `layers.${layer}.attention.${name}`;
  const linear = (
    to: string,
    name: string,
    rows: number,
    columns: number,
    hasBias: boolean,
    rowOrder?: Int32Array,
  ): void => {
    weights.matrix(role(to), `${prefix}${name}.weight`, [rows, columns], { rowOrder });
    if (hasBias) weights.vector(role(`${to}.bias`), `${prefix}${name}.bias`, rows, { rowOrder });
  };
  const numQueries = numHeads * (nopeDim + ropeDim);
  if (queryRank === null) {
    linear('q', tensors.q, numQueries, hiddenSize, hasQkvBias);
  } else {
    linear('q_a', tensors.qA, queryRank, hiddenSize, hasQkvBias);
    weights.vector(role('q_a_norm'), `${prefix}${tensors.qANorm}.weight`, queryRank);
    linear('q_b', tensors.qB, numQueries, queryRank, false);
  }
  // The decoder wants the rotated rows first.
  const rotatedFirst = Int32Array.from({ length: ropeDim + rank }, (_, row) =>
    row < ropeDim ? rank + row : row - ropeDim,
  );
  linear('kv_a', tensors.kvA, ropeDim + rank, hiddenSize, hasQkvBias, rotatedFirst);
  weights.vector(role('kv_a_norm'), `${prefix}${tensors.kvANorm}.weight`, rank);
  for (let head = 0; head < numHeads; head += 1)
    mapHead(weights, role, prefix, { spec, tensors }, head, numHeads);
  linear('o', tensors.o, hiddenSize, numHeads * outputDim, hasOutputBias);
}

function mapHead(
  weights: WeightMap,
  role: (name: string) => string,
  prefix: string,
  { spec, tensors: { heads } }: LatentLayers,
  head: number,
  numHeads: number,
): void {
  const { rank, nopeDim, outputDim } = spec;
  if (heads.kind === 'split') {
    const stack = { index: head, count: numHeads };
    weights.matrix(role(`k_b.${head}`), `${prefix}${heads.kB}.weight`, [rank, nopeDim], { stack });
    weights.matrix(role(`v_b.${head}`), `${prefix}${heads.vB}.weight`, [outputDim, rank], { stack });
    return;
  }
  const name = `${prefix}${heads.kvB}.weight`;
  const first = head * (nopeDim + outputDim);
  const total = numHeads * (nopeDim + outputDim);
  weights.transposed(role(`k_b.${head}`), name, [rank, nopeDim], { first, total });
  weights.matrix(role(`v_b.${head}`), name, [outputDim, rank], { rows: { first: first + nopeDim, total } });
}
