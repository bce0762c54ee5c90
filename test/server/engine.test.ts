import { rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, Model } from '../../lib/engine/types';
import {
  createEngine,
  expectDrained,
  Fixture,
  randomTokens,
  seededRandom,
  stretchedFixture,
} from '../engine/engine-under-test';
import { eventually } from './eventually';
import { postText, RawConnection } from './raw-http';

// Goal: the built server over the built engine: tokens are those of the engine, and whatever clients do, rows and pages
// come back.
type ServerPackage = typeof import('../../lib/server/index');
const { serve } = createRequire(__filename)(
  join(__dirname, '..', '..', 'dist', 'server', 'index.js'),
) as ServerPackage;

let engine: Engine;
let model: Model;
let server: Awaited<ReturnType<ServerPackage['serve']>>;
let client: OpenAI;
let folder: string;
const limits = { stallMs: 1_500 };

beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  // Long answers keep rows busy for as long as a test needs to look at them.
  folder = stretchedFixture();
  model = await engine.loadModel({
    source: folder,
    maxConcurrency: 2,
    maxQueuedRequests: 3,
    maxStepTokens: 16,
  });
  server = await serve(engine, { port: 0, limits });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server.close({ graceMs: 0 });
  await engine.close();
  rmSync(folder, { recursive: true });
});

const prompt = randomTokens(40, seededRandom(3));
/** Says nothing of its own accord before `max_tokens`. */
const endless = { ignore_eos: true, temperature: 0.9 };
const completion = (fields: object = {}) => ({
  model: model.id,
  prompt,
  max_tokens: 12,
  seed: 5,
  ...endless,
  ...fields,
});

describe('answers', () => {
  test('are the engine’s own, whole and streamed', async () => {
    const own = await model.generate({
      tokens: prompt,
      maxTokens: 12,
      seed: 5,
      ignoreEos: true,
      temperature: 0.9,
    });
    const whole = await client.completions.create(completion());
    expect(whole.choices[0]).toMatchObject({ text: own.text, finish_reason: 'length' });
    expect(whole.usage).toMatchObject({ prompt_tokens: 40, completion_tokens: 12, total_tokens: 52 });
    let streamed = '';
    for await (const chunk of await client.completions.create({ ...completion(), stream: true }))
      streamed += chunk.choices[0]?.text ?? '';
    expect(streamed).toBe(own.text);
    await expectDrained(model);
  });

  test('of n: 2 are those of the seed and the next one', async () => {
    const both = await client.completions.create(completion({ n: 2 }));
    for (const [i, seed] of [5, 6].entries()) {
      const one = await client.completions.create(completion({ seed }));
      expect(both.choices[i]?.text).toBe(one.choices[0]?.text);
    }
    expect(both.choices[0]?.text).not.toBe(both.choices[1]?.text);
  });

  test('say how much of the prompt was cached', async () => {
    const salted = completion({ cache_salt: 'fresh' });
    const first = await client.completions.create(salted);
    const second = await client.completions.create(salted);
    expect(first.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    expect(second.usage?.prompt_tokens_details?.cached_tokens).toBe(32);
    expect(second.choices[0]?.text).toBe(first.choices[0]?.text);
  });

  test('have log-probabilities whose bytes make up the text', async () => {
    const { choices } = await client.completions.create(completion({ logprobs: 3, temperature: 0 }));
    const logprobs = choices[0]?.logprobs;
    expect(logprobs?.token_logprobs).toHaveLength(12);
    for (const [i, logprob] of (logprobs?.token_logprobs ?? []).entries()) {
      expect(logprob).toBeLessThanOrEqual(0);
      // Greedy: the token chosen is the likeliest alternative.
      expect(Math.max(...Object.values(logprobs?.top_logprobs?.[i] ?? {}))).toBe(logprob);
    }
  });

  test('end before a stop string', async () => {
    const { text } = await model.generate({
      tokens: prompt,
      maxTokens: 12,
      seed: 5,
      ignoreEos: true,
      temperature: 0.9,
    });
    const stop = text.slice(4, 6);
    const { choices } = await client.completions.create(completion({ stop }));
    expect(choices[0]).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' });
  });
});

describe('the engine’s refusals', () => {
  test('of settings name the field as it was sent', async () => {
    await expect(client.completions.create(completion({ logit_bias: { 99999: 1 } }))).rejects.toMatchObject({
      status: 400,
      code: 'invalid_parameter',
      param: 'logit_bias',
    });
    await expect(client.completions.create(completion({ prompt: [1, 99_999] }))).rejects.toMatchObject({
      status: 400,
      param: 'prompt[1]',
    });
    await expect(client.completions.create(completion({ prompt: '' }))).rejects.toMatchObject({
      status: 400,
      param: 'prompt',
    });
    await expect(client.completions.create(completion({ prompt: 'a\ud800b' }))).rejects.toMatchObject({
      status: 400,
    });
  });

  test('of a prompt over the context have both counts', async () => {
    const long = randomTokens(4_096, seededRandom(4));
    await expect(client.completions.create(completion({ prompt: long }))).rejects.toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
      error: { found: '4096', allowed: '4096' },
    });
  });

  test('of a request the queue has no room for are 429 with a time to wait', async () => {
    const controller = new AbortController();
    const running = Array.from({ length: 5 }, () =>
      client.completions
        .create(completion({ max_tokens: 4_000 }), { signal: controller.signal })
        .catch(() => null),
    );
    await eventually(async () => (await model.stats()).numRunning + (await model.stats()).numWaiting).toBe(5);
    const error = await client.completions
      .create(completion())
      .catch((reason: InstanceType<typeof OpenAI.APIError>) => reason);
    expect(error).toMatchObject({ status: 429, code: 'queue_full' });
    expect((error as InstanceType<typeof OpenAI.APIError>).headers?.get('retry-after')).toBe('1');
    controller.abort();
    await Promise.all(running);
    await expectDrained(model);
    expect((await client.completions.create(completion())).choices[0]?.finish_reason).toBe('length');
  });
});

describe('a client that goes away', () => {
  const ask = async (fields: object): Promise<RawConnection> => {
    const connection = await RawConnection.open(server.port);
    await connection.write(
      postText('/v1/completions', JSON.stringify(completion({ max_tokens: 4_000, ...fields }))),
    );
    return connection;
  };
  const stats = () => model.stats();

  for (const stream of [false, true]) {
    const kind = stream ? 'a stream' : 'a whole answer';
    test(`in the queue gives up its place, for ${kind}`, async () => {
      const running = [await ask({ stream }), await ask({ stream })];
      const waiting = await ask({ stream });
      await eventually(async () => (await stats()).numWaiting).toBe(1);
      waiting.reset();
      await eventually(async () => (await stats()).numWaiting).toBe(0);
      for (const connection of running) connection.reset();
      await expectDrained(model);
    });

    test(`in prefill frees its row, for ${kind}`, async () => {
      const before = (await stats()).generatedTokens;
      const connection = await ask({ stream, prompt: randomTokens(3_900, seededRandom(9)), max_tokens: 5 });
      await eventually(async () => (await stats()).numRunning).toBe(1);
      connection.reset();
      await expectDrained(model);
      // A prompt of 3,900 tokens takes over 240 steps here: none of them was the last.
      expect((await stats()).generatedTokens).toBe(before);
    });

    test(`in decode frees its row, for ${kind}`, async () => {
      const before = (await stats()).generatedTokens;
      const connection = await ask({ stream });
      await eventually(async () => (await stats()).generatedTokens - before).toBeGreaterThan(3);
      connection.reset();
      await expectDrained(model);
      expect((await stats()).generatedTokens - before).toBeLessThan(4_000);
    });
  }

  test('while its prompt is tokenized leaves nothing', async () => {
    const connection = await ask({ prompt: 'word '.repeat(300) });
    connection.reset();
    await expectDrained(model);
  });

  test('a hundred times at random leaks nothing', async () => {
    const random = seededRandom(21);
    for (let i = 0; i < 100; i += 1) {
      const connection = await ask({ stream: random() < 0.5, n: 1 + Math.floor(random() * 2) });
      await new Promise((resolve) => setTimeout(resolve, random() * 15));
      connection.reset();
    }
    await expectDrained(model);
    expect((await client.completions.create(completion())).choices[0]?.finish_reason).toBe('length');
  });
});

describe('a reader that takes nothing', () => {
  test('is paused and then ended, and its neighbour is served meanwhile', async () => {
    const long = await engine.loadModel({ source: folder, maxConcurrency: 4 });
    try {
      const connection = await RawConnection.open(server.port);
      connection.stopReading();
      // 20 alternatives make a token two kilobytes: three answers are several times what all socket buffers hold.
      const messages = [{ role: 'user', content: 'Hi' }];
      const fields = { max_tokens: 4_000, logprobs: true, top_logprobs: 20, n: 3, stream: true, ...endless };
      await connection.write(
        postText('/v1/chat/completions', JSON.stringify({ model: long.id, messages, ...fields })),
      );
      await eventually(async () => (await long.stats()).generatedTokens).toBeGreaterThan(10);
      const neighbour = await client.completions.create({ ...completion(), model: long.id });
      expect(neighbour.usage?.completion_tokens).toBe(12);
      await eventually(async () => (await long.stats()).numRunning).toBe(0);
      expect((await long.stats()).generatedTokens).toBeLessThan(3 * 4_000);
      await expectDrained(long);
      connection.reset();
    } finally {
      await long.close();
    }
  });
});

describe('an engine that goes away', () => {
  test('ends streams with a typed error, and the next call and /health say so', async () => {
    const own = await createEngine({ threads: 1 });
    const { id } = await own.loadModel({ source: Fixture.float32 });
    const ownServer = await serve(own, { port: 0 });
    const ownClient = client.withOptions({ baseURL: `${ownServer.url}/v1` });
    const stream = await ownClient.completions.create({
      ...completion({ max_tokens: 450 }),
      model: id,
      stream: true,
    });
    const reading = (async () => {
      for await (const _ of stream) void own.close();
    })();
    await expect(reading).rejects.toMatchObject({ code: 'engine_closed' });
    await expect(ownClient.completions.create({ ...completion(), model: id })).rejects.toMatchObject({
      code: 'model_not_found',
    });
    expect((await fetch(`${ownServer.url}/health`)).status).toBe(503);
    await ownServer.close();
  });
});
