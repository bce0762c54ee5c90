import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AutoglmError } from '../../lib/errors';
import { type RunningServer, serve } from '../../lib/server';
import { chatChunkSchema, chatCompletionSchema, completionSchema } from '../../lib/server/wire/responses';
import { eventually } from './eventually';
import { gate, ScriptedEngine } from './scripted-engine';

// Goal: what the official client sends is understood, and what it gets is what it expects from OpenAI.
let engine: ScriptedEngine;
let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  engine = new ScriptedEngine('tiny', 'org/other');
  server = await serve(engine, { port: 0, apiKeys: ['sk-test'] });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'sk-test', maxRetries: 0 });
});
beforeEach(() => {
  engine.model.seen.length = 0;
  engine.model.script = () => ({ tokens: ['Hello', ',', ' world'] });
});
afterAll(() => server.close());

const messages = [{ role: 'user' as const, content: 'Hi' }];

describe('chat completions', () => {
  test('a whole answer has text, usage with cached tokens and the schema promised', async () => {
    const answer = await client.chat.completions.create({ model: 'tiny', messages });
    expect(answer.choices[0]?.message).toEqual({
      role: 'assistant',
      content: 'Hello, world',
      refusal: null,
      annotations: [],
    });
    expect(answer.choices[0]?.finish_reason).toBe('stop');
    expect(answer.usage).toMatchObject({ prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 });
    expect(answer.usage?.prompt_tokens_details?.cached_tokens).toBe(4);
    chatCompletionSchema.parse(JSON.parse(JSON.stringify(answer)));
  });

  test('a stream opens with the role, ends with the reason, and the last chunk has the usage', async () => {
    const stream = await client.chat.completions.create({
      model: 'tiny',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta ?? null)).toEqual([
      { role: 'assistant', content: '' },
      { content: 'Hello' },
      { content: ',' },
      { content: ' world' },
      {},
      null,
    ]);
    expect(chunks.map((chunk) => chunk.choices[0]?.finish_reason ?? null)).toEqual([
      null,
      null,
      null,
      null,
      'stop',
      null,
    ]);
    expect(chunks.map((chunk) => chunk.usage?.total_tokens ?? null)).toEqual([
      null,
      null,
      null,
      null,
      null,
      12,
    ]);
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
    for (const chunk of chunks) chatChunkSchema.parse(chunk);
  });

  test('a stream that did not ask for usage has none', async () => {
    const stream = await client.chat.completions.create({ model: 'tiny', messages, stream: true });
    for await (const chunk of stream) {
      expect(chunk).not.toHaveProperty('usage');
      expect(chunk.choices).toHaveLength(1);
    }
  });

  test('n answers run at once with seeds of their own, and the prompt is counted once', async () => {
    const meet = gate();
    engine.model.script = (options, index) => ({
      tokens: [`answer ${options.seed}`],
      // Each waits until the last one was started: only concurrent ones ever finish.
      beforeToken: () => {
        if (index === 2) meet.open();
        return meet.opened;
      },
    });
    const answer = await client.chat.completions.create({ model: 'tiny', messages, n: 3, seed: 40 });
    expect(answer.choices.map((choice) => [choice.index, choice.message.content])).toEqual([
      [0, 'answer 40'],
      [1, 'answer 41'],
      [2, 'answer 42'],
    ]);
    expect(answer.usage).toMatchObject({ prompt_tokens: 9, completion_tokens: 3 });
  });

  test('n: 2 streams interleave and each choice is whole', async () => {
    engine.model.script = (_, index) => ({
      tokens: index === 0 ? ['a', 'b'] : ['x', 'y', 'z'],
      finishReason: 'length',
    });
    const stream = await client.chat.completions.create({ model: 'tiny', messages, n: 2, stream: true });
    const texts = ['', ''];
    const reasons: (string | null)[] = [null, null];
    const roles = [0, 0];
    for await (const { choices } of stream) {
      for (const { index, delta, finish_reason } of choices) {
        texts[index] = (texts[index] ?? '') + (delta.content ?? '');
        roles[index] = (roles[index] ?? 0) + (delta.role === 'assistant' ? 1 : 0);
        reasons[index] = finish_reason ?? reasons[index] ?? null;
      }
    }
    expect(texts).toEqual(['ab', 'xyz']);
    expect(reasons).toEqual(['length', 'length']);
    expect(roles).toEqual([1, 1]);
  });

  test('logprobs come per token with alternatives, whole and streamed', async () => {
    const request = { model: 'tiny', messages, logprobs: true, top_logprobs: 2 };
    const whole = await client.chat.completions.create(request);
    const content = whole.choices[0]?.logprobs?.content ?? [];
    expect(content.map((token) => token.token)).toEqual(['Hello', ',', ' world']);
    expect(content[0]).toMatchObject({ logprob: -0.5, bytes: [72, 101, 108, 108, 111] });
    expect(content[0]?.top_logprobs.map((token) => token.token)).toEqual(['Hello', 'Hello~1']);
    const streamed = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    }
    expect(streamed).toEqual(content);
    expect(engine.model.seen.map((call) => call.options.logprobs)).toEqual([2, 2]);
  });

  test('every setting reaches the engine under its name there', async () => {
    await client.chat.completions.create({
      model: 'tiny',
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          name: 'ann',
          content: [
            { type: 'text', text: 'H' },
            { type: 'text', text: 'i' },
          ],
        },
      ],
      temperature: 0.5,
      top_p: 0.9,
      presence_penalty: 0.1,
      frequency_penalty: -0.2,
      logit_bias: { 5: -100 },
      seed: 3,
      stop: ['\n'],
      max_completion_tokens: 17,
      ...{ top_k: 40, min_p: 0.05, repetition_penalty: 1.1, ignore_eos: true, cache_salt: 'x' },
      ...{ chat_template_kwargs: { enable_thinking: false } },
    });
    const { signal, ...options } = engine.model.seen[0]?.options ?? {};
    expect(options).toEqual({
      messages: [
        { role: 'developer', content: 'Be brief.' },
        { role: 'user', name: 'ann', content: 'Hi' },
      ],
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      minP: 0.05,
      repetitionPenalty: 1.1,
      presencePenalty: 0.1,
      frequencyPenalty: -0.2,
      logitBias: { 5: -100 },
      seed: 3,
      stop: ['\n'],
      maxTokens: 17,
      ignoreEos: true,
      cacheSalt: 'x',
      templateOptions: { enable_thinking: false },
    });
    expect(signal).toBeInstanceOf(AbortSignal);
  });

  test('an answer can be sent back as history', async () => {
    const answer = await client.chat.completions.create({ model: 'tiny', messages });
    const message = answer.choices[0]?.message;
    if (message === undefined) throw new Error('no answer');
    await client.chat.completions.create({ model: 'tiny', messages: [...messages, message, ...messages] });
    expect(engine.model.seen[1]?.options.messages?.[1]).toEqual({
      role: 'assistant',
      content: 'Hello, world',
    });
  });

  test('warnings of the engine are part of the answer', async () => {
    const warnings = [{ code: 'setting_ignored', message: 'why' }];
    engine.model.script = () => ({ tokens: ['a'], warnings });
    expect(await client.chat.completions.create({ model: 'tiny', messages })).toMatchObject({ warnings });
    const last = [];
    for await (const chunk of await client.chat.completions.create({ model: 'tiny', messages, stream: true }))
      last.push(chunk);
    expect(last.at(-1)).toMatchObject({ warnings });
    expect(last.filter((chunk) => chunk.choices[0]?.delta.role === 'assistant')).toHaveLength(1);
  });
});

describe('completions', () => {
  test('prompts as text, tokens and arrays of either become one answer each', async () => {
    for (const [prompt, seen] of [
      ['abc', [{ prompt: 'abc' }]],
      [[1, 2], [{ tokens: [1, 2] }]],
      [
        ['a', 'b'],
        [{ prompt: 'a' }, { prompt: 'b' }],
      ],
      [
        [[1], [2, 3]],
        [{ tokens: [1] }, { tokens: [2, 3] }],
      ],
    ] as const) {
      engine.model.seen.length = 0;
      const answer = await client.completions.create({ model: 'tiny', prompt: prompt as string });
      expect(engine.model.seen).toHaveLength(seen.length);
      for (const [i, one] of seen.entries()) expect(engine.model.seen[i]?.options).toMatchObject(one);
      expect(answer.choices.map((choice) => choice.index)).toEqual(seen.map((_, i) => i));
      expect(answer.usage?.prompt_tokens).toBe(9 * seen.length);
      completionSchema.parse(JSON.parse(JSON.stringify(answer)));
    }
  });

  test('choice i of prompt p has index p * n + i', async () => {
    engine.model.script = (options) => ({ tokens: [`${options.prompt}${options.seed}`] });
    const answer = await client.completions.create({ model: 'tiny', prompt: ['a', 'b'], n: 2, seed: 0 });
    expect(answer.choices.map((choice) => choice.text)).toEqual(['a0', 'a1', 'b0', 'b1']);
    expect(answer.usage).toMatchObject({ prompt_tokens: 18, completion_tokens: 4 });
  });

  test('logprobs have offsets into the text, streamed ones too', async () => {
    const request = { model: 'tiny', prompt: 'abc', logprobs: 1 };
    const whole = (await client.completions.create(request)).choices[0]?.logprobs;
    expect(whole).toEqual({
      tokens: ['Hello', ',', ' world'],
      token_logprobs: [-0.5, -0.5, -0.5],
      top_logprobs: [{ Hello: -0.5 }, { ',': -0.5 }, { ' world': -0.5 }],
      text_offset: [0, 5, 6],
    });
    const offsets = [];
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      completionSchema.parse(chunk);
      offsets.push(...(chunk.choices[0]?.logprobs?.text_offset ?? []));
    }
    expect(offsets).toEqual([0, 5, 6]);
    const none = await client.completions.create({ ...request, logprobs: 0 });
    expect(none.choices[0]?.logprobs?.top_logprobs).toBeNull();
    expect(none.choices[0]?.logprobs?.token_logprobs).toHaveLength(3);
  });
});

describe('models', () => {
  test('are listed and found by id, also with a slash in it', async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual(['tiny', 'org/other']);
    expect(await client.models.retrieve('org/other')).toMatchObject({ id: 'org/other', object: 'model' });
    await expect(client.models.retrieve('none')).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
  });

  test('a request for a model that is not loaded names those that are', async () => {
    const call = client.chat.completions.create({ model: 'gpt', messages });
    await expect(call).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
      param: 'model',
      error: { found: 'gpt', allowed: 'tiny, org/other' },
    });
  });
});

describe('aborting', () => {
  test('leaving the loop stops the generation', async () => {
    engine.model.script = () => ({
      tokens: Array(1e5).fill('a'),
      beforeToken: () => new Promise((r) => setTimeout(r, 1)),
    });
    const stream = await client.chat.completions.create({ model: 'tiny', messages, stream: true });
    let numChunks = 0;
    for await (const _ of stream) {
      numChunks += 1;
      if (numChunks === 5) break;
    }
    await eventually(() => engine.model.seen[0]?.outcome).toBe('aborted');
  });

  test('the client’s signal stops a call that does not stream', async () => {
    engine.model.script = () => ({ tokens: ['a'], beforeToken: () => new Promise(() => {}) });
    const controller = new AbortController();
    const call = client.chat.completions.create({ model: 'tiny', messages }, { signal: controller.signal });
    await eventually(() => engine.model.numRunning).toBe(1);
    controller.abort();
    await expect(call).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    await eventually(() => engine.model.seen[0]?.outcome).toBe('aborted');
  });
});

describe('errors', () => {
  const cases = [
    ['invalid_parameter', 400, OpenAI.BadRequestError],
    ['context_length_exceeded', 400, OpenAI.BadRequestError],
    ['template_failed', 400, OpenAI.BadRequestError],
    ['queue_full', 429, OpenAI.RateLimitError],
    ['numeric_error', 500, OpenAI.InternalServerError],
    ['kv_exhausted', 503, OpenAI.InternalServerError],
    ['engine_closed', 503, OpenAI.InternalServerError],
    ['engine_failed', 503, OpenAI.InternalServerError],
    ['deadline_exceeded', 504, OpenAI.InternalServerError],
  ] as const;
  const failWith = (code: AutoglmError['code'], at: number) => {
    engine.model.script = () => ({
      tokens: ['a', 'b', 'c'],
      beforeToken: (i) => {
        if (i === at)
          throw new AutoglmError(code, `failed at ${at}`, {
            details: { path: 'maxTokens', found: 7, allowed: '1..5' },
          });
      },
    });
  };

  for (const [code, status, errorClass] of cases) {
    for (const stream of [false, true]) {
      test(`${code} before the first token is a ${status}${stream ? ' for a stream too' : ''}`, async () => {
        failWith(code, 0);
        const call = client.chat.completions.create({ model: 'tiny', messages, stream });
        const error = await call.then(
          () => null,
          (reason: InstanceType<typeof OpenAI.APIError>) => reason,
        );
        expect(error).toBeInstanceOf(errorClass);
        expect(error).toMatchObject({ status, code, param: 'max_tokens' });
        expect(error?.error).toMatchObject({
          message: 'failed at 0',
          found: '7',
          allowed: '1..5',
          retryable: new AutoglmError(code, '').retryable,
        });
        expect(error?.requestID).toBe((error?.error as { request_id: string } | undefined)?.request_id);
        expect(error?.headers?.get('retry-after') ?? null).toBe(
          status === 429 || status === 503 ? '1' : null,
        );
      });
    }
  }

  test('an engine that fails in mid-stream ends the stream with an error, never silently', async () => {
    failWith('numeric_error', 2);
    const stream = await client.chat.completions.create({ model: 'tiny', messages, stream: true });
    let text = '';
    const reading = (async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    })();
    await expect(reading).rejects.toMatchObject({ code: 'numeric_error', type: 'server_error' });
    expect(text).toBe('ab');
  });

  test('one failed answer of several ends the others', async () => {
    engine.model.script = (_, index) => ({
      tokens: ['a'],
      beforeToken: () => {
        if (index === 1) throw new AutoglmError('queue_full', 'the queue is full');
        return new Promise(() => {});
      },
    });
    for (const stream of [false, true]) {
      engine.model.seen.length = 0;
      await expect(
        client.chat.completions.create({ model: 'tiny', messages, n: 2, stream }),
      ).rejects.toMatchObject({ status: 429, code: 'queue_full' });
      expect(engine.model.seen.map((call) => call.outcome)).toEqual(['aborted', 'failed']);
    }
  });

  test('a fault that is not ours says nothing of itself', async () => {
    engine.model.script = () => ({
      tokens: ['a'],
      beforeToken: () => {
        throw new Error('secret detail');
      },
    });
    const call = client.chat.completions.create({ model: 'tiny', messages });
    const error = await call.catch((reason: InstanceType<typeof OpenAI.APIError>) => reason);
    expect(error).toMatchObject({ status: 500, code: 'internal' });
    expect(JSON.stringify(error)).not.toContain('secret');
  });

  test('a wrong key is an authentication error', async () => {
    const stranger = client.withOptions({ apiKey: 'sk-other' });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });
});
