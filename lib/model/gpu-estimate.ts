import { type ComputeLayout, Limits } from '../native/abi';
import type { DecoderSpec } from '../native/decoder-spec';
import type { MemoryEstimate, TensorMemory } from './memory-estimate';

/** What every part of a model takes on either side of a split: the first layers the processor's, the last ones the GPU's. */
export interface PartBytes {
  readonly layers: readonly LayerBytes[];
  /** Of what comes before the first layer. */
  readonly embedding: { readonly gpu: number; readonly host: number };
  /** Of what comes behind the last layer, on the GPU; `alone` without the embedding, whose matrix a tied head shares. */
  readonly head: { readonly beside: number; readonly alone: number };
  /** Of the layers of a pooled answer, which the processor computes wherever the others are. */
  readonly pooled: number;
}

export interface LayerBytes {
  readonly gpu: number;
  readonly host: number;
}

/** Parts of an arena begin at its multiples: cuda::Arena. */
const ALIGNMENT = 256;
/** cuda/quantized/weight_order.h */
const PANEL_ROWS = 32;
const SLAB_COLUMNS = 64;
const GROUP = 32;

const CODE_BITS: Readonly<Partial<Record<ComputeLayout, number>>> = { q8: 8, q6: 6, q4: 4, iq4: 4, e2m1: 4 };

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Of a tensor that is no quantized matrix on a GPU: vectors are f32 there, rows of matrices bf16 or f16. */
function floatBytes([rows = 1, columns]: readonly number[]): number {
  return aligned(columns === undefined ? rows * 4 : rows * Math.ceil(columns / 8) * 16);
}

/** device_matrix_bytes in native/model/gpu/weight_upload.cpp; 4-bit codes of a code book take 8 bits. */
function matrixBytes({ layout, bytes, shape }: TensorMemory): number {
  const bits = CODE_BITS[layout];
  const [rows = 1, columns] = shape;
  if (bits === undefined || columns === undefined) return floatBytes(shape);
  const panels = Math.ceil(rows / PANEL_ROWS);
  const padded = Math.ceil(columns / SLAB_COLUMNS) * SLAB_COLUMNS;
  const packedCodes = (panels * PANEL_ROWS * columns * bits) / 8;
  const scales = ((bytes - packedCodes - 4 * panels) * padded) / columns;
  const codes = (panels * PANEL_ROWS * padded * (layout === 'q4' ? 4 : 8)) / 8;
  return aligned(codes) + aligned(scales) + aligned(4 * panels);
}

/** Heads of latent attention are 16-bit floats whatever they were, and so is a pair of gate and up that no panel boundary parts. */
function layerTensorBytes(tensor: TensorMemory, byRole: ReadonlyMap<string, TensorMemory>): number {
  const { role, layout, shape } = tensor;
  if (/\.[kv]_b\.\d+$/.test(role)) return floatBytes(shape);
  const pair = /^(.*\.)(gate|up)$/.exec(role);
  const other = pair === null ? undefined : byRole.get(`${pair[1]}${pair[2] === 'gate' ? 'up' : 'gate'}`);
  const isSplit = other !== undefined && (other.layout !== layout || (shape[0] ?? 0) % GROUP !== 0);
  return isSplit ? floatBytes(shape) : matrixBytes(tensor);
}

/** What a model's weights take, by part. `spec` is what `tensors` were estimated for. */
export function partBytes({ tensors }: Pick<MemoryEstimate, 'tensors'>, spec: DecoderSpec): PartBytes {
  const byRole = new Map(tensors.map((tensor) => [tensor.role, tensor]));
  const layers = spec.layers.map(() => ({ gpu: 0, host: 0 }));
  const embedding = { gpu: 0, host: 0 };
  const head = { beside: 0, alone: 0 };
  let pooled = 0;
  for (const tensor of tensors) {
    const { role, bytes, shape } = tensor;
    const layer = layers[Number(/^layers\.(\d+)\./.exec(role)?.[1] ?? -1)];
    if (layer !== undefined) {
      layer.gpu += layerTensorBytes(tensor, byRole);
      layer.host += bytes;
    } else if (/^(position_|token_type_)?embedding/.test(role)) {
      embedding.gpu += role === 'embedding' ? matrixBytes(tensor) : floatBytes(shape);
      embedding.host += bytes;
      if (role === 'embedding' && spec.head?.isTied === true) head.alone += matrixBytes(tensor);
    } else if (role.startsWith('pooled.')) {
      pooled += bytes;
    } else {
      head.alone += matrixBytes(tensor);
      head.beside += matrixBytes(tensor);
    }
  }
  return { layers, embedding, head, pooled };
}

/** Bytes of what stands before the first layer and behind the last one, on a GPU that has one of the two or both. */
export function gpuEndBytes(parts: PartBytes, hasFirst: boolean, hasLast: boolean): number {
  const head = hasFirst ? parts.head.beside : parts.head.alone;
  return (hasFirst ? parts.embedding.gpu : 0) + (hasLast ? head : 0);
}

/** Bytes of weights on each side when a GPU has the last `gpuLayers` layers, at least 1. */
export function splitWeightBytes(parts: PartBytes, gpuLayers: number): { gpu: number; host: number } {
  const first = parts.layers.length - gpuLayers;
  const isWhole = first === 0;
  let gpu = gpuEndBytes(parts, isWhole, true);
  let host = parts.pooled + (isWhole ? 0 : parts.embedding.host);
  for (const [i, layer] of parts.layers.entries()) {
    if (i < first) host += layer.host;
    else gpu += layer.gpu;
  }
  return { gpu, host };
}

/** Rows of logits that a step may want on a GPU at once: kMaxDeviceLogitRows in native/runtime/load_job.cpp. */
const MAX_LOGIT_ROWS = 256;

/** Working memory for logits on the GPU with the head: of as many as running requests and guesses want at once. */
export function gpuLogitBytes({ head, vocabSize }: DecoderSpec, maxConcurrency: number): number {
  return head === null ? 0 : 4 * vocabSize * Math.min(MAX_LOGIT_ROWS, maxConcurrency + Limits.maxDrafts);
}
