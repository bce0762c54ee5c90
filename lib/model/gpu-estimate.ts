import type { ComputeLayout } from '../native/abi';
import type { MemoryEstimate } from './memory-estimate';

/** What a packed tensor becomes in a GPU's memory: native/cuda/device_matrix.h. */
const ENLARGED: Readonly<Partial<Record<ComputeLayout, number>>> = {
  f32: 0.5, // bf16
  q6: 34 / 26, // 8-bit codes and a scale for each group of 32
  iq4: 34 / 18,
  e2m1: 34 / 18,
};
/** Rows are padded to whole tiles, and every part begins at a multiple of 256 bytes. */
const PADDING = 1.02;

/** Bytes that a model's weights take on a GPU. Vectors stay f32; their share is below the padding's. */
export function gpuWeightBytes({ tensors }: Pick<MemoryEstimate, 'tensors'>): number {
  let bytes = 0;
  for (const { layout, bytes: packed, shape } of tensors)
    bytes += packed * (shape.length < 2 ? 1 : (ENLARGED[layout] ?? 1));
  return Math.ceil(bytes * PADDING);
}
