import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, GenerateOptions, LoadModelOptions, Model } from '../../lib/engine/types';
import { ADAPTERS } from '../parity/fixtures';
import {
  type Answer,
  answer,
  createEngine,
  endless,
  expectDrained,
  Fixture,
  randomTokens,
  seededRandom,
  untilPreempted,
} from './engine-under-test';

const PATTERNS = join(ADAPTERS, 'llama-patterns');
const RSLORA = join(ADAPTERS, 'llama-rslora');
const PLAIN = join(ADAPTERS, 'llama-plain.gguf');

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.close());

async function withModel<T>(
  options: Partial<LoadModelOptions>,
  body: (model: Model) => Promise<T>,
): Promise<T> {
  const model = await engine.loadModel({ source: Fixture.float32, contextLength: 256, ...options });
  try {
    return await body(model);
  } finally {
    await model.close();
  }
}

const ADAPTER_NAMES = [undefined, 'patterns', 'rslora', 'plain', undefined, 'patterns', 'plain', 'rslora'];

async function loadAll(model: Model): Promise<void> {
  await Promise.all([
    model.loadAdapter({ source: PATTERNS, name: 'patterns' }),
    model.loadAdapter({ source: RSLORA, name: 'rslora', scale: 2 }),
    model.loadAdapter({ source: PLAIN, name: 'plain' }),
  ]);
}

const requestsWith = (length: number): readonly GenerateOptions[] => {
  const tokens = randomTokens(length, seededRandom(4));
  return ADAPTER_NAMES.map((adapter, i) =>
    endless(tokens.slice(0, length - 5 * i), {
      maxTokens: 40,
      logprobs: 0,
      seed: i,
      ...(adapter === undefined ? {} : { adapter }),
    }),
  );
};

// Goal: what a request's neighbours use never shows in its numbers, whatever the weights' layout and the norms.
// Method: ids and log-probabilities of requests with three adapters and none, alone, compared bit for bit with those of
// all of them together, in small steps, from cached prefixes and in a cache too small for all.
describe.each([
  ['float32', Fixture.float32, 'exact'],
  ['q4 in fast mode', Fixture.q4, 'fast'],
] as const)('%s', (_, source, precision) => {
  test('requests with several adapters and none in one batch answer as they do alone', async () => {
    const requests = requestsWith(60);
    const alone: Answer[] = [];
    const pageBytes = await withModel(
      { source, precision, kvCache: { prefixCache: false } },
      async (model) => {
        alone.push(await answer(model, { ...requests[0] }));
        await loadAll(model);
        for (const request of requests.slice(1)) alone.push(await answer(model, request));
        return model.info.kvBytesPerToken * 16;
      },
    );
    expect(new Set(alone.map((each) => JSON.stringify(each))).size).toBe(requests.length);
    await withModel({ source, precision, maxStepTokens: 48 }, async (model) => {
      await loadAll(model);
      for (const what of ['together', 'from cached prefixes']) {
        const answers = await Promise.all(requests.map((request) => answer(model, request)));
        expect(answers, what).toEqual(alone);
      }
      expect((await model.stats()).prefixHitTokens).toBeGreaterThan(0);
    });
    const small = { memory: 10 * pageBytes, prefixCache: false };
    await withModel({ source, precision, contextLength: 128, kvCache: small }, async (model) => {
      await loadAll(model);
      await untilPreempted(model, async () => {
        const answers = await Promise.all(requests.map((request) => answer(model, request)));
        expect(answers, 'in 10 pages').toEqual(alone);
      });
    });
  });
});

test('prefixes are cached for one adapter only, also when its name is used again', async () => {
  await withModel({}, async (model) => {
    const tokens = randomTokens(64, seededRandom(8));
    const cached = async (adapter?: string) => {
      const request = endless(tokens, { maxTokens: 1, ...(adapter === undefined ? {} : { adapter }) });
      return (await model.generate(request)).usage.cachedTokens;
    };
    const first = await model.loadAdapter({ source: PATTERNS, name: 'one' });
    expect(await cached()).toBe(0);
    expect(await cached()).toBe(48);
    expect(await cached('one')).toBe(0);
    expect(await cached('one')).toBe(48);
    await first.close();
    await model.loadAdapter({ source: RSLORA, name: 'one' });
    expect(await cached('one')).toBe(0);
  });
});

test('evaluations take adapters: score agrees with logits', async () => {
  await withModel({}, async (model) => {
    await loadAll(model);
    const tokens = randomTokens(10, seededRandom(2));
    const scores = await model.score(tokens, { adapter: 'patterns' });
    const logits = await model.logits(tokens, { adapter: 'patterns', positions: [3] });
    const normalizer = Math.log(logits.reduce((sum, value) => sum + Math.exp(value), 0));
    expect(scores[3]).toBeCloseTo((logits[tokens[4] as number] as number) - normalizer, 4);
    expect(scores).not.toEqual(await model.score(tokens));
  });
});

test('adapters come and go while requests run, and closing waits for those that use one', async () => {
  await withModel({ maxConcurrency: 8 }, async (model) => {
    const tokens = randomTokens(20, seededRandom(3));
    const base = endless(tokens, { maxTokens: 200, logprobs: 0 });
    const expected = await answer(model, base);
    const running = [answer(model, base), answer(model, base)];
    for (let round = 0; round < 6; round += 1) {
      const adapter = await model.loadAdapter({ source: round % 2 === 0 ? PATTERNS : RSLORA, name: 'guest' });
      expect(adapter.info.bytes).toBeGreaterThan(0);
      const used = model.generate(endless(tokens, { maxTokens: 30, adapter: 'guest' }));
      for await (const _ of used) break; // its last reader leaves, so it is aborted while steps are queued
      await adapter.close();
      await expect(model.generate(endless(tokens, { adapter: 'guest' }))).rejects.toMatchObject({
        code: 'model_not_found',
      });
      running.push(answer(model, base));
    }
    for (const each of running) expect(await each).toEqual(expected);
    expect(model.adapters).toEqual([]);
    await expectDrained(model);
  });
});

test('close resolves after the running request, which keeps its adapter to the end', async () => {
  await withModel({}, async (model) => {
    const request = endless(randomTokens(20, seededRandom(3)), {
      maxTokens: 100,
      adapter: 'one',
      logprobs: 0,
    });
    const adapter = await model.loadAdapter({ source: PATTERNS, name: 'one' });
    const expected = await answer(model, request);
    const order: string[] = [];
    const pending = answer(model, request).then((tokens) => {
      order.push('answer');
      return tokens;
    });
    while ((await model.stats()).adapters[0]?.numRequests !== 1)
      await new Promise((resolve) => setImmediate(resolve));
    const closing = adapter.close().then(() => order.push('closed'));
    expect(adapter.close()).toBe(adapter.close());
    expect(await pending).toEqual(expected);
    await closing;
    expect(order).toEqual(['answer', 'closed']);
  });
});

test('a model that closes takes its adapters with it, loading and closing ones too', async () => {
  const model = await engine.loadModel({ source: Fixture.float32, contextLength: 128 });
  const adapter = await model.loadAdapter({ source: PATTERNS, name: 'one' });
  const running = model.generate(
    endless(randomTokens(5, seededRandom(1)), { maxTokens: 100, adapter: 'one' }),
  );
  const closing = adapter.close();
  const loading = model.loadAdapter({ source: RSLORA });
  const ends = Promise.allSettled([running, loading, closing]);
  await model.close();
  const [ran, loaded, closed] = await ends;
  expect(ran).toMatchObject({ status: 'rejected', reason: { code: 'engine_closed' } });
  expect(loaded).toMatchObject({ status: 'rejected', reason: { code: 'engine_closed' } });
  expect(closed.status).toBe('fulfilled');
  await adapter.close();
});

describe('refusals', () => {
  const refused = (model: Model, options: Parameters<Model['loadAdapter']>[0], expected: object) =>
    expect(model.loadAdapter(options)).rejects.toMatchObject(expected);

  test('names, scales, unknown names and aborts', async () => {
    await withModel({}, async (model) => {
      const adapter = await model.loadAdapter(PATTERNS);
      expect(adapter.name).toBe('llama-patterns');
      expect(adapter.info).toMatchObject({ format: 'peft', rank: 9, scale: 1, baseModel: 'llama-f32' });
      await refused(model, PATTERNS, { code: 'invalid_parameter', details: { path: 'name' } });
      await refused(model, { source: PATTERNS, name: 'a:b' }, { code: 'invalid_parameter' });
      await refused(model, { source: PATTERNS, name: 'x', scale: 1000 }, { code: 'invalid_parameter' });
      await refused(model, join(ADAPTERS, 'nothing'), { code: 'model_not_found' });
      const signal = AbortSignal.abort();
      await refused(model, { source: RSLORA, signal }, { code: 'aborted' });
      const unknown = { code: 'model_not_found', details: { found: 'nobody', allowed: ['llama-patterns'] } };
      await expect(model.generate({ tokens: [1], adapter: 'nobody' })).rejects.toMatchObject(unknown);
      await expect(model.logits([1], { adapter: 'nobody' })).rejects.toMatchObject(unknown);
      await expect(model.score([1, 2], { adapter: 'nobody' })).rejects.toMatchObject(unknown);
      expect(model.adapters.map(({ name }) => name)).toEqual(['llama-patterns']);
    });
  });

  test('an adapter of another base, and a file that changed under the load', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'autoglm-adapter-'));
    try {
      await withModel({ source: Fixture.q8 }, async (model) => {
        await refused(model, PATTERNS, { code: 'invalid_model_file' });
      });
      await withModel({}, async (model) => {
        await refused(model, join(ADAPTERS, 'gpt2-fused'), { code: 'invalid_model_file' });
        cpSync(PATTERNS, folder, { recursive: true });
        const file = join(folder, 'adapter_model.safetensors');
        writeFileSync(file, readFileSync(file).subarray(0, -4));
        await refused(model, { source: folder, name: 'cut' }, { code: 'invalid_model_file' });
        expect(model.adapters).toEqual([]);
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
