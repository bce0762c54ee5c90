import { describe, expect, test } from 'vitest';
import type { GenerateOptions, LoadModelOptions, Model } from '../../lib/engine/types';
import {
  type Answer,
  answer,
  endless,
  expectDrained,
  Fixture,
  randomTokens,
  seededRandom,
  untilPreempted,
  withModel,
} from './engine-under-test';

const GUESSING = { mode: 'prompt-lookup', maxTokens: 8, adaptive: false } as const;

/** Few tokens, said over and over: guesses are often right and often wrong. */
const repetitive = (length: number, overrides: Partial<GenerateOptions> = {}): GenerateOptions =>
  endless(randomTokens(length, seededRandom(length)), {
    maxTokens: 60,
    logprobs: 3,
    logitBias: Object.fromEntries([10, 20, 30, 40, 50].map((token) => [token, 80])),
    ...overrides,
  });

const REQUESTS: readonly GenerateOptions[] = [
  repetitive(5, { temperature: 0 }),
  repetitive(20, { temperature: 1, seed: 1 }),
  repetitive(33, { temperature: 1.3, seed: 2, topK: 3 }),
  repetitive(47, { temperature: 0.7, seed: 3, frequencyPenalty: 1.5, presencePenalty: -1 }),
  repetitive(64, { temperature: 0, repetitionPenalty: 1.4 }),
  repetitive(81, { temperature: 1, seed: 4, maxTokens: 7 }),
];

const plainAnswers = (options: Partial<LoadModelOptions>): Promise<Answer[]> =>
  withModel({ ...options, kvCache: { prefixCache: false } }, (model) => allAnswers(model));

const allAnswers = (model: Model): Promise<Answer[]> =>
  Promise.all(REQUESTS.map((request) => answer(model, request)));

// Goal: guesses change nothing but the number of steps. Method: ids and log-probabilities, bit for bit, of requests
// with every kind of sampling, against the same requests without guesses.
describe.each([
  ['q4, fast', { source: Fixture.q4 }],
  ['bf16 with sandwich norms', { source: Fixture.bf16 }],
  ['float32, exact', { source: Fixture.float32, precision: 'exact' }],
] as const)('the answers of %s with guesses', (_name, options) => {
  const reference = plainAnswers(options);
  reference.catch(() => {});
  const speculative = { ...options, speculation: GUESSING };

  test('are the same alone, in fewer steps', async () => {
    await withModel(speculative, async (model) => {
      let numTokens = 0;
      for (const [i, request] of REQUESTS.entries()) {
        expect(await answer(model, request)).toEqual((await reference)[i]);
        numTokens += request.maxTokens ?? 0;
      }
      const { steps, draftedTokens, acceptedTokens } = await model.stats();
      expect(acceptedTokens).toBeGreaterThan(numTokens / 5);
      expect(draftedTokens).toBeGreaterThan(acceptedTokens);
      expect(steps).toBeLessThanOrEqual(numTokens - acceptedTokens + REQUESTS.length);
    });
  });

  test('are the same together, with cached prefixes and in small steps', async () => {
    await withModel(speculative, async (model) => {
      expect(await allAnswers(model)).toEqual(await reference);
      expect(await allAnswers(model)).toEqual(await reference);
      expect((await model.stats()).prefixHitTokens).toBeGreaterThan(0);
    });
    await withModel({ ...speculative, maxStepTokens: 16, maxChunkTokens: 5 }, async (model) => {
      expect(await allAnswers(model)).toEqual(await reference);
    });
  });

  test('are the same after preemption and where guesses are made only when they pay', async () => {
    const pageBytes = await withModel(options, async ({ info }) => info.kvBytesPerToken * 16);
    await withModel({ ...speculative, kvCache: { memory: 16 * pageBytes } }, async (model) => {
      await untilPreempted(model, async () => expect(await allAnswers(model)).toEqual(await reference));
      await expectDrained(model);
    });
    await withModel({ ...options, speculation: { mode: 'prompt-lookup' } }, async (model) => {
      expect(await allAnswers(model)).toEqual(await reference);
    });
  });
});

describe('a request with guesses', () => {
  const request = repetitive(30, { temperature: 0, maxTokens: 80 });

  test('ends at the same stop string, and tells how many guesses were right', async () => {
    await withModel({ source: Fixture.q4 }, async (model) => {
      const whole = await model.generate(request);
      const stop = whole.text.slice(9, 13);
      const plain = await model.generate({ ...request, stop });
      const guessed = await model.generate({ ...request, stop, speculation: GUESSING });
      const { usage, text, tokens, finishReason, stopString } = guessed;
      expect({ text, tokens, finishReason, stopString }).toEqual({
        text: plain.text,
        tokens: plain.tokens,
        finishReason: plain.finishReason,
        stopString: plain.stopString,
      });
      expect(plain.usage).toMatchObject({ draftedTokens: 0, acceptedTokens: 0 });
      expect(usage.completionTokens).toBe(plain.usage.completionTokens);
      const full = await model.generate({ ...request, speculation: GUESSING });
      expect(full.usage.acceptedTokens).toBeGreaterThan(10);
      expect(full.usage.draftedTokens).toBeGreaterThanOrEqual(full.usage.acceptedTokens);
      await expectDrained(model);
    });
  });

  test('can be aborted at any token, and leaves no page behind', async () => {
    await withModel({ source: Fixture.q4, speculation: GUESSING }, async (model) => {
      for (const count of [1, 2, 5, 20]) {
        const generation = model.generate({ ...request, maxTokens: 300 });
        let numTokens = 0;
        for await (const event of generation) {
          if ('tokens' in event) numTokens += event.tokens.length;
          if (numTokens >= count) break;
        }
        await expect(generation.result).rejects.toMatchObject({ code: 'aborted' });
      }
      await expectDrained(model);
    });
  });

  test('may turn off what the model was loaded with', async () => {
    await withModel({ source: Fixture.q4, speculation: GUESSING }, async (model) => {
      const { usage } = await model.generate({ ...request, speculation: 'off' });
      expect(usage.draftedTokens).toBe(0);
    });
  });

  test.each([
    ['on', /speculation to be 'off' or an object/],
    [{}, /speculation.mode to be one of 'prompt-lookup'/],
    [{ mode: 'guess' }, /speculation.mode to be one of 'prompt-lookup'/],
    [{ mode: 'prompt-lookup', maxTokens: 17 }, /speculation.maxTokens to be an integer in 1..16, got 17/],
    [{ mode: 'prompt-lookup', length: 1 }, /speculation.length is not a known option/],
  ])('refuses %j', async (speculation, message) => {
    await withModel({ source: Fixture.q4 }, async (model) => {
      const wrong = { ...request, speculation: speculation as never };
      await expect(model.generate(wrong).result).rejects.toThrow(message);
    });
  });
});
