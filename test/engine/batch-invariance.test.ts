import { describe, expect, test } from 'vitest';
import type { GenerateOptions, LoadModelOptions, Model } from '../../lib/engine/types';
import {
  type Answer,
  answer,
  endless,
  Fixture,
  randomTokens,
  repeatUntil,
  seededRandom,
  untilPreempted,
  withModel,
} from './engine-under-test';

// Goal: what a request says and the numbers behind it depend on nothing but the request.
// Method: token ids and log-probabilities of one set of requests, computed alone, are compared bit for bit with those of
// every other way in which the engine can compute them.

const NUM_REQUESTS = 16;

const requests: readonly GenerateOptions[] = (() => {
  const random = seededRandom(21);
  return Array.from({ length: NUM_REQUESTS }, (_, i) =>
    endless(randomTokens([5, 17, 64, 150][i % 4] ?? 1, random), {
      maxTokens: 24,
      logprobs: 4,
      seed: i,
      temperature: i % 2 === 0 ? 0 : 0.9,
    }),
  );
})();

async function aloneAnswers(options: Partial<LoadModelOptions>, threads: number): Promise<Answer[]> {
  const settings = { ...options, kvCache: { prefixCache: false } };
  return withModel(
    settings,
    async (model) => {
      const answers: Answer[] = [];
      for (const request of requests) answers.push(await answer(model, request));
      return answers;
    },
    threads,
  );
}

const together = (model: Model): Promise<Answer[]> =>
  Promise.all(requests.map((request) => answer(model, request)));

const MODELS = [
  ['q4, fast', { source: Fixture.q4, precision: 'fast' }],
  ['q4, exact', { source: Fixture.q4, precision: 'exact' }],
  ['q8 with q/k norms, fast', { source: Fixture.q8, precision: 'fast' }],
  ['bf16 with sandwich norms, fast', { source: Fixture.bf16, precision: 'fast' }],
  ['float32, exact', { source: Fixture.float32, precision: 'exact' }],
] as const;

describe.each(MODELS)('the answers of %s', (_name, options) => {
  const reference = aloneAnswers(options, 2);
  // The promise is awaited in each test; a failure is reported there.
  reference.catch(() => {});

  test('are the same in a batch of prompts and decodes, and cached prefixes change nothing', async () => {
    await withModel(options, async (model) => {
      expect(await together(model)).toEqual(await reference);
      const before = (await model.stats()).prefixHitTokens;
      expect(await together(model)).toEqual(await reference);
      expect((await model.stats()).prefixHitTokens).toBeGreaterThan(before);
    });
  });

  test('are the same on one thread', async () => {
    expect(await aloneAnswers(options, 1)).toEqual(await reference);
    await withModel(options, async (model) => expect(await together(model)).toEqual(await reference), 1);
  });

  test.each([1, 7, 64, 512])(
    'are the same with prompts cut into chunks of %i tokens',
    async (maxChunkTokens) => {
      await withModel({ ...options, maxChunkTokens, kvCache: { prefixCache: false } }, async (model) => {
        // A chunk is capped only while others decode, so somebody does.
        await repeatUntil(async () => {
          const company = model.generate(endless([1, 2, 3], { maxTokens: 505 }));
          await company[Symbol.asyncIterator]().next();
          const { steps } = await model.stats();
          expect(await answer(model, requests[3] as GenerateOptions)).toEqual((await reference)[3]);
          const numSteps = (await model.stats()).steps - steps;
          company.abort();
          return numSteps >= Math.ceil(150 / maxChunkTokens);
        });
        expect(await together(model)).toEqual(await reference);
      });
    },
  );

  test('are the same in steps of 16 positions', async () => {
    await withModel({ ...options, maxStepTokens: 16 }, async (model) => {
      expect(await together(model)).toEqual(await reference);
    });
  });

  test('are the same after preemption', async () => {
    const pageBytes = await withModel(options, async ({ info }) => info.kvBytesPerToken * 16);
    await withModel({ ...options, kvCache: { memory: 24 * pageBytes } }, async (model) => {
      await untilPreempted(model, async () => expect(await together(model)).toEqual(await reference));
    });
  });
});

describe('evaluations', () => {
  test('are the same alone, in company, in small steps and on one thread', async () => {
    const tokens = randomTokens(130, seededRandom(5));
    const evaluate = async (model: Model) => [
      await model.logits(tokens, { positions: [0, 77, -1] }),
      await model.score(tokens),
    ];
    const options = { source: Fixture.q4 };
    const expected = await withModel(options, evaluate, 1);
    await withModel({ ...options, maxStepTokens: 16 }, async (model) =>
      expect(await evaluate(model)).toEqual(expected),
    );
    await withModel(options, async (model) => {
      const company = requests.map((request) => model.generate(request));
      expect(await evaluate(model)).toEqual(expected);
      await Promise.all(company);
    });
  });
});
