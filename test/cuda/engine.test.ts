import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, Model } from '../../lib/engine/types';
import {
  answer,
  createEngine,
  endless,
  Fixture,
  randomTokens,
  seededRandom,
} from '../engine/engine-under-test';
import { FIXTURES, fixturePath, STORED_FIXTURES } from '../parity/fixtures';
import { useFakeDriver } from './cuda-binary';
import { expectReferenceLogits, MAX_RELATIVE_ERROR } from './reference-logits';
import { SMALL_SIZE } from './small-model';

// Goal: the whole package computes on a GPU what it computes on the processor. Method: the addon with CUDA code on a driver
// whose device is the SIMT emulator; every kernel is the one that a GPU gets.

let engine: Engine;
beforeAll(async () => {
  useFakeDriver();
  engine = await createEngine({ device: 'cuda', threads: 1 });
});
afterAll(() => engine.close());

const SIZE = { ...SMALL_SIZE, kvCache: { memory: '4MiB' } } as const;

async function withFixture<T>(source: string, body: (model: Model) => Promise<T>): Promise<T> {
  const model = await engine.loadModel({ source, ...SIZE });
  try {
    return await body(model);
  } finally {
    await model.close();
  }
}

test('says which GPU computes', () => {
  const { variant, gpu } = engine.binary;
  expect(variant).toBe('cuda');
  expect(gpu).toMatchObject({ index: 0, computeCapability: 90 });
});

/** Tiny models with dims that no real model has. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  'glm4-moe-lite-bf16': /dims without rotation of 12; expected a multiple of 8/,
  'gpt2-f32': /attention heads of 8 dims/,
  'gpt2-q8_0': /attention heads of 8 dims/,
  'qwen2-moe-f16': /attention heads of 8 dims/,
  'qwen2-moe-q8_0': /attention heads of 8 dims/,
  'smollm3-bf16': /attention heads of 8 dims/,
  'smollm3-q8_0': /attention heads of 8 dims/,
};

test.each(Object.entries(REFUSED))('%s is refused: no kernel has its dims', async (name, message) => {
  await expect(engine.loadModel({ source: fixturePath(name), ...SIZE })).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringMatching(message),
  });
});

describe.each([...FIXTURES, ...STORED_FIXTURES].filter((name) => !(name in REFUSED)))('%s', (name) => {
  test('logits are those of the reference implementation', async () => {
    await withFixture(fixturePath(name), (model) => expectReferenceLogits(model, name));
  });
});

test('a KV cache of fp8 takes a byte for a number, and logits stay near the reference', async () => {
  const kvCache = { ...SIZE.kvCache, dtype: 'fp8' } as const;
  const bf16 = await withFixture(Fixture.q4, async ({ info }) => info.kvBytesPerToken);
  const model = await engine.loadModel({ source: Fixture.q4, ...SIZE, kvCache });
  try {
    expect(model.info.kvBytesPerToken).toBeLessThan(0.65 * bf16); // heads of 16 dims have a float each beside them
    await expectReferenceLogits(model, 'llama-q4_0', 2 * MAX_RELATIVE_ERROR);
  } finally {
    await model.close();
  }
});

test('requests get the same tokens together as alone, sampled ones too', async () => {
  await withFixture(Fixture.q4, async (model) => {
    const random = seededRandom(5);
    const requests = [3, 20, 40].map((length, i) =>
      endless(randomTokens(length, random), {
        maxTokens: 6,
        seed: i,
        temperature: i === 0 ? 0 : 0.8,
        logprobs: 0,
      }),
    );
    const alone = [];
    for (const request of requests) alone.push((await answer(model, request)).map(([token]) => token));
    const together = await Promise.all(requests.map((request) => answer(model, request)));
    expect(together.map((tokens) => tokens.map(([token]) => token))).toEqual(alone);
  });
});

test('what no kernel executes is refused before anything is read', async () => {
  await expect(
    engine.loadModel({ source: Fixture.float32, ...SIZE, precision: 'exact' }),
  ).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('exact'),
  });
});
