import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../../lib/model/checkpoint';
import { describeDecoder } from '../../../lib/model/families/registry';
import { estimateMemory } from '../../../lib/model/memory-estimate';
import type { KvDtype } from '../../../lib/native/abi';

const models = join(__dirname, '..', '..', 'fixtures', 'models');
const stored = join('..', 'stored', 'models');
const BLOCKS_OF_32 = join(stored, 'gguf-blocks-of-32.gguf');
const BLOCKS_OF_256 = join(stored, 'gguf-blocks-of-256.gguf');

async function estimateOf(name: string, precision: 'fast' | 'exact', kvDtype: KvDtype = 'bf16') {
  const { spec, tensors } = describeDecoder(await openCheckpoint(join(models, name)));
  const size = { contextLength: 100, concurrency: 3, maxStepTokens: 64, threads: 2 };
  return estimateMemory({ spec, tensors, precision, kvDtype, ...size });
}

test('the KV cache takes keys and values of every layer for each token', async () => {
  const estimate = await estimateOf('qwen3-q8_0.gguf', 'fast');
  // 2 layers x 2 kv heads x (32 + 32) elements x 2 bytes
  expect(estimate.kvBytesPerToken).toBe(512);
  expect(estimate.kvBytes).toBe(512 * 7 * 16 * 3); // whole pages
  expect(estimate.totalBytes).toBe(estimate.weightBytes + estimate.kvBytes + estimate.scratchBytes);
});

test.each(['int8', 'fp8'] as const)(
  'an %s KV cache adds a float for the keys and one for the values of each head',
  async (dtype) => {
    const estimate = await estimateOf('qwen3-q8_0.gguf', 'fast', dtype);
    expect(estimate.kvBytesPerToken).toBe(2 * 2 * (32 + 32 + 2 * 4));
  },
);

test('an int8 KV cache of latents is refused', async () => {
  await expect(estimateOf('glm4-moe-lite-bf16', 'fast', 'int8')).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringMatching(/kvCache\.dtype .* latent attention .* got "int8"/),
  });
  await expect(estimateOf('glm4-moe-lite-bf16', 'fast', 'fp8')).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringMatching(/kvCache\.dtype to be "bf16" for .* latent attention .* got "fp8"/),
    details: { allowed: ['bf16'] },
  });
});

describe('bits per weight are those of the layout, scales included', () => {
  const cases: readonly (readonly [string, string, 'fast' | 'exact', string, number])[] = [
    ['glm4-f32-gguf.gguf', 'layers.0.mlp.gate', 'fast', 'f32', 32],
    ['qwen2-f16.gguf', 'layers.0.mlp.gate', 'fast', 'f16', 16],
    ['glm4-bf16', 'layers.0.mlp.gate', 'fast', 'bf16', 16],
    ['qwen3-q8_0.gguf', 'layers.0.mlp.gate', 'fast', 'q8', 8.5],
    ['llama-q4_0.gguf', 'layers.0.mlp.gate', 'fast', 'q4', 4.5],
    ['chatglm-q4_1.gguf', 'layers.0.mlp.gate', 'fast', 'q4', 5],
    ['llama-q4_k.gguf', 'layers.0.mlp.gate', 'fast', 'q4', 5],
    ['llama-q4_k.gguf', 'layers.0.mlp.gate', 'exact', 'q4', 6],
    ['llama-q4_k.gguf', 'head', 'fast', 'q6', 7],
    ['llama-q4_k.gguf', 'head', 'exact', 'q6', 8],
    ['llama-q4_0.gguf', 'layers.0.mlp_norm', 'fast', 'f32', 32],
    [BLOCKS_OF_32, 'layers.0.mlp.up', 'fast', 'iq4', 4.5],
    [BLOCKS_OF_32, 'layers.0.mlp.up', 'exact', 'iq4', 4.5],
    [BLOCKS_OF_32, 'layers.0.mlp.down', 'fast', 'e2m1', 4.5],
    [BLOCKS_OF_32, 'layers.0.mlp.down', 'exact', 'e2m1', 5],
    [BLOCKS_OF_256, 'layers.0.mlp.up', 'fast', 'iq4', 4.5],
    [BLOCKS_OF_256, 'layers.0.mlp.up', 'exact', 'iq4', 5],
  ];
  test.each(cases)('%s: %s, %s: %s', async (name, role, precision, layout, bits) => {
    const tensor = (await estimateOf(name, precision)).tensors.find((candidate) => candidate.role === role);
    expect(tensor?.layout).toBe(layout);
    // One float per panel of 32 rows and the rounding to 64 bytes come on top.
    expect(tensor?.bitsPerWeight).toBeGreaterThanOrEqual(bits);
    expect(tensor?.bitsPerWeight).toBeLessThan(bits + 0.1);
  });
});

test('the sums over layouts are the weights', async () => {
  const { layouts, weightBytes, tensors } = await estimateOf('llama-q4_k.gguf', 'fast');
  expect(Object.keys(layouts).sort()).toEqual(['f32', 'q4', 'q6']);
  expect(Object.values(layouts).reduce((sum, bytes) => sum + bytes, 0)).toBe(weightBytes);
  expect(tensors.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(weightBytes);
});

test('a last panel that is not full counts as a whole one', () => {
  const tensor = {
    role: 'w',
    source: { format: 'f16', shape: [33, 10], slices: [], rowOrder: null, isTransposed: false },
  } as const;
  const spec = { layers: [], ropeTables: [], hiddenSize: 1, head: null } as never;
  const input = {
    spec,
    tensors: [tensor],
    precision: 'fast',
    kvDtype: 'f32',
    contextLength: 1,
    concurrency: 1,
    maxStepTokens: 16,
    threads: 2,
  } as const;
  expect(estimateMemory(input).weightBytes).toBe(1344); // 2 panels x (10 x 32 x 2 + 4), rounded up to 64
});
