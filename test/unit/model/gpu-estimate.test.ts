import { expect, test } from 'vitest';
import { partBytes, splitWeightBytes } from '../../../lib/model/gpu-estimate';
import type { TensorMemory } from '../../../lib/model/memory-estimate';
import type { ComputeLayout } from '../../../lib/native/abi';
import type { DecoderSpec } from '../../../lib/native/decoder-spec';

const ROWS = 1_024;
const COLUMNS = 64;
const PANELS = ROWS / 32;

const embedding = (layout: ComputeLayout, bytes: number): TensorMemory =>
  ({ role: 'embedding', layout, bytes, shape: [ROWS, COLUMNS] }) as unknown as TensorMemory;

/** Of a model of two layers without weights. */
const parts = (tensor: TensorMemory, isTied: boolean) =>
  partBytes({ tensors: [tensor] }, { layers: [{}, {}], head: { isTied } } as unknown as DecoderSpec);

// Codes and one 16-bit scale for each group of 32, then a float for each panel of 32 rows.
test.each<[ComputeLayout, number, number]>([
  ['q4', 4, 4],
  ['q8', 8, 8],
  ['q6', 6, 8],
  ['iq4', 4, 8],
])(
  'an embedding of %s is one matrix of codes, whether or not a tied head shares it',
  (layout, bits, onGpu) => {
    const scales = (ROWS * COLUMNS * 2) / 32;
    const tensor = embedding(layout, (ROWS * COLUMNS * bits) / 8 + scales + 4 * PANELS);
    const matrix = (ROWS * COLUMNS * onGpu) / 8 + scales + Math.ceil((4 * PANELS) / 256) * 256;
    for (const isTied of [false, true])
      expect(splitWeightBytes(parts(tensor, isTied), 2)).toEqual({ gpu: matrix, host: 0 });
    expect(splitWeightBytes(parts(tensor, true), 1)).toEqual({ gpu: matrix, host: tensor.bytes });
    expect(splitWeightBytes(parts(tensor, false), 1)).toEqual({ gpu: 0, host: tensor.bytes });
  },
);

test('floats are bfloat16', () => {
  const tensor = embedding('f32', ROWS * COLUMNS * 4);
  expect(splitWeightBytes(parts(tensor, true), 2)).toEqual({ gpu: ROWS * COLUMNS * 2, host: 0 });
});
