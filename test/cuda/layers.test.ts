import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, LoadModelOptions, Model } from '../../lib/engine/types';
import { openCheckpoint } from '../../lib/model/checkpoint';
import { describeDecoder } from '../../lib/model/families/registry';
import { partBytes, splitWeightBytes } from '../../lib/model/gpu-estimate';
import { estimateMemory } from '../../lib/model/memory-estimate';
import { createEngine, endless, Fixture, randomTokens, seededRandom } from '../engine/engine-under-test';
import { fixturePath, relativeError } from '../parity/fixtures';
import { useFakeDriver } from './cuda-binary';
import { expectReferenceLogits, MAX_RELATIVE_ERROR } from './reference-logits';
import { DRAFTED, MIB, PREDICTABLE, SMALL_SIZE, tokensOf, withModel } from './small-model';

// Goal: a model that a GPU has no room for is computed by both, and says so. Method: the fake driver has 96 MiB, so that a
// KV cache of 100 MiB, half of it for each of two layers, fits beside one of them.

const TOO_LARGE = { ...SMALL_SIZE, kvCache: { memory: '100MiB' } } as const;

let engine: Engine;
beforeAll(async () => {
  useFakeDriver(`total_memory=${96 * MIB}`);
  engine = await createEngine({ device: 'cuda', threads: 1 });
});
afterAll(() => engine.close());

test('a model that fits is on the GPU whole', async () => {
  await withModel(engine, { source: Fixture.q4 }, async (model) => {
    expect(model.info.gpuLayers).toBe(2);
  });
});

test('a model that does not fit is split, and computes what its reference does', async () => {
  await withModel(engine, { source: Fixture.q4, ...TOO_LARGE }, async (model) => {
    expect(model.info.gpuLayers).toBe(1);
    expect(model.info.kvBytes).toBeGreaterThan(99 * MIB);
    await expectReferenceLogits(model, 'llama-q4_0');
  });
});

describe.each([
  ['gemma3-bf16', 3],
  ['gemma3-q8_0', 1],
  ['glm4-moe-bf16', 2],
  ['glm4-bf16', 1],
  ['phi3-f16', 1],
])('%s with its last %d layers on the GPU', (name, gpuLayers) => {
  test('has the logits of its reference', async () => {
    await withModel(engine, { source: fixturePath(name), gpuLayers }, async (model) => {
      expect(model.info.gpuLayers).toBe(gpuLayers);
      await expectReferenceLogits(model, name);
    });
  });
});

test('requests get the same tokens together as alone', async () => {
  await withModel(engine, { source: Fixture.q4, gpuLayers: 1 }, async (model) => {
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
    for (const request of requests) alone.push(await tokensOf(model, request));
    expect(await Promise.all(requests.map((request) => tokensOf(model, request)))).toEqual(alone);
  });
});

test('a draft model guesses for a model on both sides', async () => {
  const predicted = (model: Model) => tokensOf(model, PREDICTABLE);
  const split = { source: Fixture.q4, gpuLayers: 1 };
  const expected = await withModel(engine, split, predicted);
  await withModel(engine, { ...split, speculation: DRAFTED }, async (model) => {
    expect(model.info).toMatchObject({ gpuLayers: 1, draftModel: { contextLength: 176 } });
    expect(await predicted(model)).toEqual(expected);
    expect((await model.stats()).acceptedTokens).toBeGreaterThan(0);
  });
});

// Against the same model on the GPU whole.
describe('models without a language head', () => {
  const TEXTS = ['a short text', 'another one, somewhat longer than the first'];
  const load = (name: string, gpuLayers: number): LoadModelOptions => ({
    source: join(__dirname, '..', 'fixtures', 'encoders', 'models', name),
    gpuLayers,
  });

  test('embed', async () => {
    const embed = async (model: Model) => (await model.embed(TEXTS)).embeddings;
    const expected = await withModel(engine, load('qwen3-embed', 2), embed);
    const found = await withModel(engine, load('qwen3-embed', 1), embed);
    for (const [i, vector] of expected.entries())
      expect(relativeError(found[i] as Float32Array, vector)).toBeLessThanOrEqual(MAX_RELATIVE_ERROR);
  });

  test('classify', async () => {
    const classify = async (model: Model) => (await model.classify(TEXTS, { raw: true })).results;
    const expected = await withModel(engine, load('qwen3-classify', 2), classify);
    const found = await withModel(engine, load('qwen3-classify', 1), classify);
    for (const [i, labels] of expected.entries()) {
      for (const { label, score } of labels) {
        const other = found[i]?.find((each) => each.label === label)?.score;
        expect(other, `text ${i}, ${label}`).toBeCloseTo(score, 1);
      }
    }
  });
});

describe('what cannot be is refused', () => {
  test.each<[string, Partial<LoadModelOptions>, string, RegExp]>([
    [
      'more layers than the model has',
      { gpuLayers: 3 },
      'invalid_parameter',
      /1\.\.2, the model's layers, got 3/,
    ],
    ['no layers', { gpuLayers: 0 }, 'invalid_parameter', /at least 1/],
    [
      'a layer that does not fit',
      { kvCache: { memory: '300MiB' } },
      'out_of_memory',
      /neither the GPU.* 1 of its 2 layers on the GPU it needs 1\d\d\.\d MiB while \d\d\.\d MiB are free there and, of the machine's memory/,
    ],
    [
      'all layers where half of them fit',
      { ...TOO_LARGE, gpuLayers: 2 },
      'out_of_memory',
      /needs 10\d\.\d MiB while \d\d\.\d MiB are free/,
    ],
  ])('%s', async (_what, options, code, message) => {
    await expect(engine.loadModel({ source: Fixture.q4, ...SMALL_SIZE, ...options })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });
});

// Goal: the estimate that the choice goes by is never below what is taken, nor far above it.
describe.each([
  'llama-q4_0',
  'llama-q4_k',
  'qwen3-q8_0',
  'gemma3-q8_0',
  'glm4-bf16',
  'glm4-moe-bf16',
  'phi3-f16',
])('weights of %s', (name) => {
  test('take what was estimated, to 15 %', async () => {
    const source = fixturePath(name);
    const { spec, tensors } = describeDecoder(await openCheckpoint(source));
    const size = { contextLength: 1, concurrency: 1, maxStepTokens: 64, threads: 1 };
    const parts = partBytes(
      estimateMemory({ spec, tensors, precision: 'fast', kvDtype: 'bf16', ...size }),
      spec,
    );
    for (let gpuLayers = 1; gpuLayers <= spec.layers.length; gpuLayers += 1) {
      const { weightBytes } = await withModel(engine, { source, gpuLayers }, async ({ info }) => info);
      const { gpu, host } = splitWeightBytes(parts, gpuLayers);
      // Of pages that hold something on either side of a boundary, and of the other layers' vectors.
      const slack = host === 0 ? 0 : 2 * 4096 + 8192;
      const figures = `${gpuLayers} layers: estimated ${gpu} + ${host}, taken ${weightBytes}`;
      expect(gpu + host + slack, figures).toBeGreaterThanOrEqual(weightBytes);
      expect(gpu + host, figures).toBeLessThanOrEqual(1.15 * weightBytes);
    }
  });
});
