import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { LoadProgress } from '../../lib/engine/load-types';
import type { LoadModelOptions, LogRecord } from '../../lib/engine/types';
import {
  createEngine,
  endless,
  Fixture,
  loadModel,
  stretchedFixture,
  withEngine,
  withModel,
} from './engine-under-test';

const load = (options: Partial<LoadModelOptions>) => withModel(options, async (model) => model);

describe('a loaded model', () => {
  test('says what it is and what it takes', async () => {
    const { info, id } = await load({ source: Fixture.q4, kvCache: { memory: '1MiB' } });
    expect(id).toBe('llama-q4_0');
    expect(info).toMatchObject({
      source: Fixture.q4,
      files: [Fixture.q4],
      family: 'llama',
      format: 'gguf',
      contextLength: 512,
      modelContextLength: 512,
      vocabSize: 384,
      precision: 'fast',
      hasChatTemplate: true,
      warnings: [],
    });
    expect(info.resolution.at(-1)?.verdict).toBe('found');
    expect(info.layouts.q4).toBeGreaterThan(0);
    expect(info.kvBytes).toBeLessThanOrEqual(2 ** 20);
    expect(info.kvBytes).toBeGreaterThan(2 ** 20 - 16 * info.kvBytesPerToken);
    expect(info.weightBytes).toBeGreaterThan(0);
    expect(info.numParameters).toBeGreaterThan(100_000);
  });

  test('has a KV cache of four contexts by default, of floats when it is to be exact', async () => {
    const fast = await withModel({}, async ({ info, stats }) => ({ info, stats }));
    expect(fast.info.kvBytes).toBe(4 * 512 * fast.info.kvBytesPerToken);
    const { info } = await load({ precision: 'exact', contextLength: 100 });
    expect(info.contextLength).toBe(100);
    expect(info.kvBytesPerToken).toBe(2 * fast.info.kvBytesPerToken);
    expect(info.kvBytes).toBe(4 * 7 * 16 * info.kvBytesPerToken);
  });

  test('has no layers on a GPU, and refuses to have some', async () => {
    expect((await load({ gpuLayers: 'auto' })).info.gpuLayers).toBe(0);
    await expect(load({ gpuLayers: 1 })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: 'expected gpuLayers to be absent or "auto" on an engine without a GPU, got 1',
      details: { path: 'gpuLayers' },
    });
  });

  test('reports its progress phase by phase, and its memory to the logger', async () => {
    const records: LogRecord[] = [];
    const seen: LoadProgress[] = [];
    const engine = await createEngine({ threads: 1, logger: (record) => records.push(record) });
    await engine.loadModel({ source: Fixture.float32, onProgress: (progress) => seen.push(progress) });
    await engine.close();
    expect([...new Set(seen.map(({ phase }) => phase))]).toEqual(['resolve', 'parse', 'weights', 'ready']);
    const weights = seen.filter(({ phase }) => phase === 'weights');
    expect(weights.at(-1)?.loaded).toBe(weights.at(-1)?.total);
    expect(records.map(({ text }) => text).join('\n')).toMatch(/KV cache in \d+ pages, context 512/);
  });

  test('without a tokenizer says so, and works with token ids', async () => {
    const folder = stretchedFixture();
    rmSync(join(folder, 'tokenizer.json'));
    const records: LogRecord[] = [];
    const engine = await createEngine({ threads: 1, logger: (record) => records.push(record) });
    const model = await engine.loadModel(folder);
    expect(model.info.warnings).toMatchObject([{ code: 'no_tokenizer' }]);
    expect(records.filter(({ level }) => level === 'warn')).toHaveLength(1);
    expect(await model.generate(endless([1, 2], { maxTokens: 3 }))).toMatchObject({
      text: '',
      tokens: { length: 3 },
    });
    await expect(model.generate({ prompt: 'hello' })).rejects.toMatchObject({ code: 'unsupported_model' });
    await engine.close();
    rmSync(folder, { recursive: true });
  });

  test('is loaded although its progress callback and the logger throw', async () => {
    const throwing = () => {
      throw new Error('mine');
    };
    const engine = await createEngine({ threads: 1, logger: throwing });
    const model = await engine.loadModel({ source: Fixture.float32, onProgress: throwing });
    expect(model.info.vocabSize).toBe(384);
    await engine.close();
  });

  test('may come from the engine that all share', async () => {
    const [one, two] = await Promise.all([loadModel(Fixture.float32), loadModel({ source: Fixture.q8 })]);
    expect((await one.generate(endless([1, 2], { maxTokens: 2 }))).tokens).toHaveLength(2);
    await Promise.all([one.close(), two.close()]);
    const again = await loadModel(Fixture.float32);
    await again.close();
  });
});

describe('loading is refused', () => {
  test.each<[string, Partial<LoadModelOptions>, string, RegExp]>([
    ['for a context beyond the model', { contextLength: 513 }, 'invalid_parameter', /at most 512.*got 513/],
    [
      'for a KV cache that cannot hold the context',
      { contextLength: 512, kvCache: { memory: 4096 } },
      'invalid_parameter',
      /kvCache\.memory/,
    ],
    ['for a KV cache beyond the memory', { kvCache: { memory: '900TiB' } }, 'out_of_memory', /MiB are free/],
    ['for a source that is not there', { source: './no-such-model' }, 'model_not_found', /no-such-model/],
    [
      'for a misspelt option',
      { contxtLength: 5 } as never,
      'invalid_parameter',
      /contxtLength is not a known option/,
    ],
  ])('%s', async (_what, options, code, message) => {
    await withEngine(async (engine) => {
      const refused = { code, message: expect.stringMatching(message) };
      await expect(engine.loadModel({ source: Fixture.float32, ...options })).rejects.toMatchObject(refused);
      expect(engine.models).toEqual([]);
      const model = await engine.loadModel(Fixture.float32);
      expect(model.info.vocabSize).toBe(384);
    });
  });

  test('for a file that was cut off, by name, and the engine goes on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'autoglm-broken-'));
    const file = join(folder, 'broken.gguf');
    writeFileSync(file, readFileSync(Fixture.q4).subarray(0, 5000));
    await withEngine(async (engine) => {
      await expect(engine.loadModel(file)).rejects.toMatchObject({
        code: 'invalid_model_file',
        message: expect.stringContaining('broken.gguf'),
      });
      expect((await engine.loadModel(Fixture.float32)).info.vocabSize).toBe(384);
    });
    rmSync(folder, { recursive: true });
  });

  test('when no binary fits, with every file looked at', async () => {
    process.env.OPEN_AUTOGLM_BINARY = '/nowhere/open_autoglm.node';
    try {
      await expect(createEngine()).rejects.toMatchObject({
        code: 'no_binary',
        details: { candidates: [{ path: '/nowhere/open_autoglm.node', verdict: 'not found' }] },
      });
    } finally {
      delete process.env.OPEN_AUTOGLM_BINARY;
    }
  });
});
