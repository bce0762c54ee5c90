import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, GenerateEvent, Model } from '../../lib/engine/types';
import {
  createEngine,
  endless,
  expectDrained,
  Fixture,
  randomTokens,
  seededRandom,
  VOCAB_SIZE,
} from './engine-under-test';

let engine: Engine;
let model: Model;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  model = await engine.loadModel(Fixture.float32);
});
afterAll(() => engine.close());

const prompt = randomTokens(20, seededRandom(1));

async function collect(events: AsyncIterable<GenerateEvent>): Promise<GenerateEvent[]> {
  const all: GenerateEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const textOf = (events: readonly GenerateEvent[]): string =>
  events.map((event) => (event.type === 'text' ? event.text : '')).join('');
const tokensOf = (events: readonly GenerateEvent[]): number[] =>
  events.flatMap((event) => (event.type === 'text' ? [...event.tokens] : []));

describe('a generation', () => {
  test('can be awaited without being read', async () => {
    const result = await model.generate(endless(prompt, { maxTokens: 30 }));
    expect(result.tokens).toHaveLength(30);
    expect(result.finishReason).toBe('length');
    expect(result.usage).toMatchObject({ promptTokens: 20, completionTokens: 30 });
    expect(result.warnings).toEqual([]);
    const { queueMs, prefillMs, ttftMs, decodeMs, totalMs, tokensPerSecond } = result.timings;
    for (const ms of [queueMs, prefillMs, decodeMs]) expect(ms).toBeGreaterThanOrEqual(0);
    expect(queueMs + prefillMs).toBeCloseTo(ttftMs, 6);
    expect(ttftMs + decodeMs).toBeCloseTo(totalMs, 6);
    expect(tokensPerSecond).toBeCloseTo((1000 * 29) / decodeMs, 6);
  });

  test('says the same to every reader, at whatever pace, and to whoever awaits it', async () => {
    const run = model.generate(endless(prompt, { maxTokens: 60 }));
    const texts: string[] = [];
    const readText = (async () => {
      for await (const text of run.textStream) {
        texts.push(text);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    const [first, second, result] = await Promise.all([collect(run), collect(run), run, readText]);
    const late = await collect(run);
    for (const events of [first, second, late]) {
      expect(tokensOf(events)).toEqual(result.tokens);
      expect(textOf(events)).toBe(result.text);
      expect(events.at(-1)).toEqual({
        type: 'finish',
        finishReason: 'length',
        usage: result.usage,
        timings: result.timings,
      });
    }
    expect(texts.join('')).toBe(result.text);
    expect(late).toHaveLength(2);
    expect(await run.result).toBe(result);
  });

  test('repeats itself with the same seed, and not with another', async () => {
    const run = (seed: number) => model.generate(endless(prompt, { maxTokens: 40, seed }));
    const [one, two, other] = await Promise.all([run(5), run(5), run(6)]);
    expect(two.tokens).toEqual(one.tokens);
    expect(other.tokens).not.toEqual(one.tokens);
    const unseeded = await model.generate(endless(prompt, { maxTokens: 40, seed: undefined } as never));
    const { seed } = unseeded.sampling;
    expect((await run(seed)).tokens).toEqual(unseeded.tokens);
  });

  test("reports the settings it used: generation_config.json under the caller's own", async () => {
    const { sampling } = await model.generate({ tokens: prompt, maxTokens: 1, topK: 5 });
    expect(sampling).toMatchObject({ temperature: 0.8, topK: 5, topP: 1, repetitionPenalty: 1 });
  });

  test('ends before a stop string, says which, and frees its row', async () => {
    const before = (await model.stats()).generatedTokens;
    const { text } = await model.generate(endless(prompt, { maxTokens: 60 }));
    const stop = text.slice(12, 16);
    const result = await model.generate(endless(prompt, { maxTokens: 450, stop: ['\u0001never', stop] }));
    expect(result.text).toBe(text.slice(0, text.indexOf(stop)));
    expect(result).toMatchObject({ finishReason: 'stop', stopString: stop });
    expect(result.tokens.length).toBeLessThan(60);
    expect(result.usage.completionTokens).toBe(result.tokens.length);
    const streamed = await collect(model.generate(endless(prompt, { maxTokens: 450, stop })));
    expect(textOf(streamed)).toBe(result.text);
    await expectDrained(model);
    expect((await model.stats()).generatedTokens).toBeLessThan(before + 60 + 2 * 450);
  });

  test('ends at an end-of-text token, which has no text, unless told to go on', async () => {
    const [eos = -1] = model.info.eosTokens;
    const forced = { tokens: prompt, maxTokens: 3, logitBias: { [eos]: 100 }, temperature: 0 };
    const result = await model.generate(forced);
    expect(result).toMatchObject({ finishReason: 'stop', text: '', tokens: [eos] });
    expect(result).not.toHaveProperty('stopString');
    const on = await model.generate({ ...forced, ignoreEos: true });
    expect(on).toMatchObject({ finishReason: 'length', text: '', tokens: [eos, eos, eos] });
  });

  test('gives log-probabilities for each token when asked', async () => {
    const run = model.generate(endless(prompt, { maxTokens: 8, logprobs: 3, temperature: 0 }));
    const events = await collect(run);
    const { logprobs = [], tokens } = await run;
    expect(logprobs.map(({ token }) => token)).toEqual(tokens);
    for (const { token, logprob, top, bytes, text } of logprobs) {
      expect(logprob).toBeLessThanOrEqual(0);
      expect(top).toHaveLength(3);
      expect(top[0]).toEqual({ token, logprob, bytes, text }); // greedy takes the likeliest
      expect(top.map((entry) => entry.logprob)).toEqual(
        [...top.map((entry) => entry.logprob)].sort((a, b) => b - a),
      );
      expect(Buffer.from(bytes).toString()).toBe(text);
    }
    expect(events.flatMap((event) => (event.type === 'text' ? (event.logprobs ?? []) : []))).toEqual(
      logprobs,
    );
    const plain = await model.generate(endless(prompt, { maxTokens: 2, logprobs: 0 }));
    expect(plain.logprobs?.map(({ top }) => top)).toEqual([[], []]);
    expect(await model.generate(endless(prompt, { maxTokens: 2 }))).not.toHaveProperty('logprobs');
  });

  test('counts the prompt tokens that the prefix cache had, and only within one salt', async () => {
    const shared = randomTokens(50, seededRandom(2));
    const run = (cacheSalt: string) => model.generate(endless(shared, { maxTokens: 2, cacheSalt }));
    expect((await run('a')).usage.cachedTokens).toBe(0);
    expect((await run('a')).usage.cachedTokens).toBe(48);
    expect((await run('b')).usage.cachedTokens).toBe(0);
  });

  test('warns when the context has less room than was asked for', async () => {
    const run = model.generate(endless(prompt, { maxTokens: 5000 }));
    const [warning] = await collect(run);
    expect(warning).toMatchObject({ type: 'warning', warning: { code: 'max_tokens_clamped' } });
    const result = await run;
    expect(result.warnings).toHaveLength(1);
    expect(result.tokens).toHaveLength(model.info.contextLength - prompt.length);
    expect(result.finishReason).toBe('length');
  });

  test('fills what is left of the context by default', async () => {
    const long = randomTokens(model.info.contextLength - 3, seededRandom(3));
    const result = await model.generate(endless(long));
    expect(result).toMatchObject({ finishReason: 'length', tokens: { length: 3 } });
  });

  test('reads chat messages through the template', async () => {
    const messages = [{ role: 'user', content: 'Hello' }] as const;
    const rendered = await model.renderPrompt(messages);
    expect(rendered).toBe('<|user|>\nHello<|end|><|assistant|>\n');
    const numTokens = await model.countTokens({ messages });
    const result = await model.generate({ messages, maxTokens: 4, seed: 1 });
    expect(result.usage.promptTokens).toBe(numTokens);
    const same = await model.generate({ prompt: rendered, parseSpecialTokens: true, maxTokens: 4, seed: 1 });
    expect(same.tokens).toEqual(result.tokens);
    expect((await model.generate('Hello')).usage.promptTokens).toBe(numTokens);
  });
});

describe('a prompt', () => {
  test('over the context is refused with both counts, also as text', async () => {
    const { contextLength } = model.info;
    const tooLong = randomTokens(contextLength, seededRandom(4));
    await expect(model.generate({ tokens: tooLong })).rejects.toMatchObject({
      code: 'context_length_exceeded',
      details: { promptTokens: contextLength, contextLength },
    });
    const text = await model.detokenize(tooLong);
    const { length } = await model.tokenize(text);
    expect(length).toBeGreaterThan(256);
    await expect(model.generate({ prompt: text + text })).rejects.toMatchObject({
      code: 'context_length_exceeded',
      details: { contextLength },
    });
  });

  test('of token ids must be within the vocabulary', async () => {
    await expect(model.generate({ tokens: [0, VOCAB_SIZE] })).rejects.toMatchObject({
      code: 'invalid_parameter',
      details: { path: 'tokens[1]' },
    });
  });

  test('that is wrong rejects the result and every reader, and throws nothing at once', async () => {
    const run = model.generate({ prompt: '' });
    await expect(collect(run)).rejects.toMatchObject({ code: 'invalid_parameter' });
    await expect(run).rejects.toMatchObject({ code: 'invalid_parameter' });
    await expect(run.textStream[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      code: 'invalid_parameter',
    });
  });

  test('with NUL and noncharacters is text like any other', async () => {
    const text = 'a\0b\uffffc😀';
    expect(await model.detokenize(await model.tokenize(text))).toBe(text);
    await expect(model.tokenize('a\ud800')).rejects.toMatchObject({ code: 'invalid_parameter' });
    await expect(model.generate({ prompt: '\udfff' })).rejects.toMatchObject({ code: 'invalid_parameter' });
  });
});
