import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine } from '../../lib/engine/types';
import { openCheckpoint } from '../../lib/model/checkpoint';
import { describeDecoder } from '../../lib/model/families/registry';
import { estimateMemory } from '../../lib/model/memory-estimate';
import { fixturePath } from '../parity/fixtures';
import { createEngine } from './engine-under-test';

// Goal: what is promised before loading is what is then used, within 5 % of the arenas' measured sizes.
// Method: fixtures of every layout and of layers that differ. They are tiny, so working memory outweighs everything
// else, and an error in it is not hidden by the weights.
const FIXTURES = [
  'llama-q4_k',
  'qwen3-q8_0',
  'glm4-bf16',
  'gemma3-q8_0',
  'phi3-f16',
  'gpt2-f32',
  'smollm3-bf16',
  'glm4-moe-lite-bf16',
  'glm4-moe-lite-q8_0',
];
const MAX_ERROR = 0.05;

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.close());

describe.each(FIXTURES)('%s', (name) => {
  test.each([
    ['fast', 'bf16'],
    ['exact', 'f32'],
    ['fast', 'int8'],
  ] as const)('%s with %s KV: what is estimated is what is used', async (precision, kvDtype) => {
    if (kvDtype === 'int8' && name.startsWith('glm4-moe-lite')) return; // refused
    const source = fixturePath(name);
    const { spec, tensors } = describeDecoder(await openCheckpoint(source));
    const size = { contextLength: 500, concurrency: 3, maxStepTokens: 128, threads: 2 };
    const estimate = estimateMemory({ spec, tensors, precision, kvDtype, ...size });
    const { contextLength, maxStepTokens } = size;
    const kvCache = { dtype: kvDtype, memory: estimate.kvBytes };
    const model = await engine.loadModel({ source, precision, contextLength, maxStepTokens, kvCache });
    const { weightBytes, kvBytes, scratchBytes } = model.info;
    await model.close();
    const allUsed = weightBytes + kvBytes + scratchBytes;
    expect(kvBytes).toBe(estimate.kvBytes);
    for (const [what, estimated, used] of [
      ['working memory', estimate.scratchBytes, scratchBytes],
      ['together', estimate.totalBytes, allUsed],
    ] as const) {
      const error = Math.abs(estimated / used - 1);
      expect(error, `${what}: estimated ${estimated}, used ${used}`).toBeLessThan(MAX_ERROR);
    }
  });
});
