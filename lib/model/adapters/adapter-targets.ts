import type { NativeAdapterPart } from '../../native/addon';
import type { DecoderSpec, LayerSpec } from '../../native/decoder-spec';
import { quoted, unsupportedModel } from '../model-file-error';

/** Modules of a layer that an adapter may change, by the names that the families' files have. */
type Target = 'q' | 'k' | 'v' | 'qkv' | 'o' | 'gate' | 'up' | 'gateUp' | 'down';

const TARGETS: Readonly<Record<string, Target>> = {
  'self_attn.q_proj': 'q',
  'self_attn.k_proj': 'k',
  'self_attn.v_proj': 'v',
  'self_attn.qkv_proj': 'qkv',
  'self_attn.o_proj': 'o',
  'mlp.gate_proj': 'gate',
  'mlp.up_proj': 'up',
  'mlp.gate_up_proj': 'gateUp',
  'mlp.down_proj': 'down',
  'self_attention.query_key_value': 'qkv',
  'self_attention.dense': 'o',
  'mlp.dense_h_to_4h': 'gateUp',
  'mlp.dense_4h_to_h': 'down',
  'attn.c_attn': 'qkv',
  'attn.c_proj': 'o',
  'mlp.c_fc': 'up',
  'mlp.c_proj': 'down',
  attn_q: 'q',
  attn_k: 'k',
  attn_v: 'v',
  attn_qkv: 'qkv',
  attn_output: 'o',
  ffn_gate: 'gate',
  ffn_up: 'up',
  ffn_down: 'down',
};

/** The layer's number, then the module's name within the layer. */
const LAYER_MODULE = /(?:^|\.)(?:layers|h|blk)\.(\d{1,6})\.(.+)$/;

export interface TargetPlace {
  readonly layer: number;
  readonly target: Target;
  readonly product: NativeAdapterPart['product'];
  /** Of the product's output. */
  readonly firstColumn: number;
  readonly numRows: number;
  readonly numColumns: number;
}

/** Why a module cannot be placed: the base model has no such layer. */
export interface MissingLayer {
  readonly layer: number;
}

/**
 * Finds the rows that a module has in the decoder. `numRows` are those of its B matrix: files that fuse gate and up may
 * call the pair `ffn_up`. Throws `unsupported_model` for modules outside the layers' dense products.
 */
export function placeTarget(
  spec: DecoderSpec,
  file: string,
  module: string,
  numRows: number,
): TargetPlace | MissingLayer {
  const match = LAYER_MODULE.exec(module);
  const named = match === null ? undefined : TARGETS[match[2] as string];
  if (match === null || named === undefined) throw unsupportedTarget(file, module);
  const layer = Number(match[1]);
  const layerSpec = spec.layers[layer];
  if (layerSpec === undefined) return { layer };
  const target = named === 'up' && isGateUp(layerSpec, numRows) ? 'gateUp' : named;
  return { layer, target, ...rowsOf(spec, layerSpec, target, file, module) };
}

function isGateUp({ mlp }: LayerSpec, numRows: number): boolean {
  return mlp.kind === 'dense' && mlp.isGated && numRows === 2 * mlp.intermediateSize;
}

type Rows = Omit<TargetPlace, 'layer' | 'target'>;

function rowsOf(spec: DecoderSpec, layer: LayerSpec, target: Target, file: string, module: string): Rows {
  const { attention, mlp } = layer;
  const { hiddenSize } = spec;
  if (target === 'gate' || target === 'up' || target === 'gateUp' || target === 'down') {
    if (mlp.kind === 'moe') throw unsupportedTarget(file, module);
    const size = mlp.intermediateSize;
    if (target === 'down') return { product: 'down', firstColumn: 0, numRows: hiddenSize, numColumns: size };
    if (target === 'gate' && !mlp.isGated) throw unsupportedTarget(file, module);
    const isBoth = target === 'gateUp' && mlp.isGated;
    return {
      product: 'gateUp',
      firstColumn: target === 'up' && mlp.isGated ? size : 0,
      numRows: isBoth ? 2 * size : size,
      numColumns: hiddenSize,
    };
  }
  if (attention.latent !== null) throw unsupportedTarget(file, module);
  const numQ = attention.numQHeads * attention.headDim;
  const numK = attention.numKvHeads * attention.headDim;
  const numV = attention.numKvHeads * attention.valueDim;
  if (target === 'o') {
    const numColumns = attention.numQHeads * attention.valueDim;
    return { product: 'o', firstColumn: 0, numRows: hiddenSize, numColumns };
  }
  const rows = {
    q: { firstColumn: 0, numRows: numQ },
    k: { firstColumn: numQ, numRows: numK },
    v: { firstColumn: numQ + numK, numRows: numV },
    qkv: { firstColumn: 0, numRows: numQ + numK + numV },
  };
  return { product: 'qkv', ...rows[target], numColumns: hiddenSize };
}

function unsupportedTarget(file: string, module: string) {
  return unsupportedModel(
    file,
    `an adapter of ${quoted(module)}`,
    Object.keys(TARGETS),
    'Adapters may change the linear products of dense layers; embeddings, heads, norms and experts are out of reach.',
  );
}
