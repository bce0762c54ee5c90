import { expect, test } from 'vitest';
import { gpuWeightBytes } from '../../../lib/model/gpu-estimate';
import type { TensorMemory } from '../../../lib/model/memory-estimate';
import type { ComputeLayout } from '../../../lib/native/abi';

const SHAPE = [1000, 64];
const tensor = (role: string, layout: ComputeLayout, bytes: number, shape: readonly number[] = SHAPE) =>
  ({ role, layout, bytes, shape }) as TensorMemory;

test.each<[ComputeLayout, number]>([
  ['q4', 1],
  ['q8', 1],
  ['bf16', 1],
  ['f32', 1 / 2],
  ['q6', 34 / 26],
  ['iq4', 34 / 18],
])('an embedding of %s, which a tied head shares, counts once', (layout, factor) => {
  const bytes = 100_000;
  expect(gpuWeightBytes({ tensors: [tensor('embedding', layout, bytes)] })).toBe(
    Math.ceil(bytes * factor * 1.02),
  );
});

test('vectors stay as they are', () => {
  expect(gpuWeightBytes({ tensors: [tensor('final_norm', 'f32', 256, [64])] })).toBe(Math.ceil(256 * 1.02));
});
