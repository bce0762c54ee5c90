import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type Model } from '../../dist/index.js';

const models = join(__dirname, '..', 'fixtures', 'encoders', 'models');
const CHAT = join(__dirname, '..', 'fixtures', 'models', 'llama-f32');

const TEXTS = ['the quick brown fox', 'a', '', 'lazy dog '.repeat(20), 'what holds pages?'];
const bitsOf = (vectors: readonly Float32Array[]): number[][] =>
  vectors.map((vector) => [...new Uint32Array(vector.slice().buffer)]);

let engine: Engine;
let chat: Model;
const load = (name: string, settings = {}): Promise<Model> =>
  engine.loadModel({
    source: name === 'llama' ? CHAT : join(models, name),
    kvCache: { memory: '4MiB' },
    contextLength: name === 'llama' ? 256 : 96,
    ...settings,
  });
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  chat = await load('llama');
});
afterAll(() => engine.close());

// Goal: what runs beside an input changes no bit of its vector. Method: each text alone, then all of them several times
// over while two models generate, one of them the model itself where it can.
describe.each(['bert-embed', 'qwen3-embed'])('%s', (name) => {
  test.each(['fast', 'exact'] as const)('%s: the same bits alone and among others', async (precision) => {
    const model = await load(name, { precision });
    const texts = TEXTS.filter((text) => name !== 'bert-embed' || text.length < 200);
    const options = { truncate: true };
    const alone: Float32Array[] = [];
    for (const text of texts) alone.push(...(await model.embed(text, options)).embeddings);
    const generating = [chat, ...(model.info.tasks.includes('generate') ? [model] : [])].flatMap((each) =>
      [1, 2].map((seed) => each.generate({ prompt: 'the fox', maxTokens: 40, seed, ignoreEos: true })),
    );
    const many = Array.from({ length: 12 }, () => texts).flat();
    const { embeddings } = await model.embed(many, options);
    for (const generation of generating) await generation;
    expect(bitsOf(embeddings)).toEqual(Array.from({ length: 12 }, () => bitsOf(alone)).flat());
    await model.close();
  });
});

describe('a call that ends early', () => {
  test('aborted: it rejects with AbortError, and the model goes on', async () => {
    const model = await load('bert-embed');
    const controller = new AbortController();
    const call = model.embed(new Array(500).fill('the fox'), { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(call).rejects.toMatchObject({ code: 'aborted', name: 'AbortError' });
    expect((await model.embed('a')).embeddings).toHaveLength(1);
    const { numRunning, numWaiting, numFreePages, numPages } = await model.stats();
    expect({ numRunning, numWaiting, numFreePages }).toEqual({
      numRunning: 0,
      numWaiting: 0,
      numFreePages: numPages,
    });
    await model.close();
  });

  test('late: it rejects with deadline_exceeded', async () => {
    const model = await load('bert-embed');
    const call = model.embed(new Array(5_000).fill('the fox'), { timeout: 1 });
    await expect(call).rejects.toMatchObject({ code: 'deadline_exceeded' });
    await model.close();
  });

  test('with a full queue: it rejects with queue_full, which may be tried again', async () => {
    const model = await load('bert-embed', { maxConcurrency: 1, maxQueuedRequests: 1 });
    const calls = Array.from({ length: 40 }, () => model.embed('the fox'));
    const results = await Promise.allSettled(calls);
    const refused = results.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    expect(refused.length).toBeGreaterThan(0);
    for (const { reason } of refused) expect(reason).toMatchObject({ code: 'queue_full', retryable: true });
    expect((await model.embed(new Array(50).fill('a'))).embeddings).toHaveLength(50);
    await model.close();
  });

  test('on a model that closes: it rejects with engine_closed, as does every later call', async () => {
    const model = await load('bert-embed');
    const call = model.embed(new Array(500).fill('the fox'));
    const closing = model.close();
    await expect(call).rejects.toMatchObject({ code: 'engine_closed' });
    await closing;
    await expect(model.embed('a')).rejects.toMatchObject({ code: 'engine_closed' });
  });
});

describe('what a model cannot do is refused with unsupported_model', () => {
  test('a language model without a head for it does not classify or rerank', async () => {
    await expect(chat.classify('a')).rejects.toMatchObject({ code: 'unsupported_model' });
    await expect(chat.rerank('a', ['b'])).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringContaining('this one can generate and embed'),
    });
  });

  test('an encoder neither generates nor gives logits; a classifier of three labels neither embeds nor reranks', async () => {
    const encoder = await load('bert-embed');
    const classifier = await load('bert-classify');
    for (const call of [
      () => encoder.generate('a').result,
      () => encoder.logits([1, 2]),
      () => encoder.score([1, 2]),
      () => encoder.classify('a'),
      () => classifier.embed('a'),
      () => classifier.rerank('a', ['b']),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'unsupported_model' });
    }
    await encoder.close();
    await classifier.close();
  });
});

describe('options', () => {
  let model: Model;
  beforeAll(async () => {
    model = await load('bert-embed', { precision: 'exact' });
  });
  afterAll(() => model.close());

  test('a language model embeds once it is told which hidden states to take', async () => {
    await expect(chat.embed('a')).rejects.toMatchObject({
      code: 'invalid_parameter',
      details: { path: 'pooling' },
    });
    const { embeddings } = await chat.embed('the fox', { pooling: 'mean' });
    expect(embeddings[0]).toHaveLength(chat.info.embeddingSize as number);
  });

  test('normalize: false gives the vector before it is scaled', async () => {
    const [raw] = (await model.embed('the fox', { normalize: false })).embeddings as [Float32Array];
    const [unit] = (await model.embed('the fox')).embeddings as [Float32Array];
    const length = Math.hypot(...raw);
    expect(Math.abs(length - 1)).toBeGreaterThan(0.01);
    for (const [i, value] of unit.entries()) expect(value).toBeCloseTo((raw[i] as number) / length, 6);
  });

  test('truncate cuts the text, keeps the special tokens and says which texts were cut', async () => {
    const long = 'dog '.repeat(100);
    const { embeddings, truncated, usage } = await model.embed(['a', long], { truncate: true });
    expect({ truncated, usage }).toEqual({ truncated: [1], usage: { promptTokens: 67 } });
    const kept = await model.embed('dog '.repeat(62)); // 64 with [CLS] and [SEP]
    expect(bitsOf([embeddings[1] as Float32Array])).toEqual(bitsOf(kept.embeddings));
    await expect(model.embed(['a', long])).rejects.toMatchObject({
      code: 'context_length_exceeded',
      details: { promptTokens: 102, contextLength: 64, path: 'texts[1]' },
    });
  });

  test.each([
    [['a', 3], {}, 'texts[1]'],
    [[], {}, 'texts'],
    [[[1, 99_999]], {}, 'texts[0]'],
    ['a', { dimensions: 17 }, 'dimensions'],
    ['a', { prompt: 'passage' }, 'prompt'],
    ['a', { raw: true }, 'raw'],
    ['a', { timeout: 0 }, 'timeout'],
  ])('embed(%j, %j) is refused by name', async (texts, options, path) => {
    await expect(model.embed(texts as never, options as never)).rejects.toMatchObject({
      code: 'invalid_parameter',
      details: { path },
    });
  });
});
