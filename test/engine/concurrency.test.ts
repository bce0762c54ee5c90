import { describe, expect, test } from 'vitest';
import type { GenerateOptions, Model } from '../../lib/engine/types';
import {
  endless,
  expectDrained,
  randomTokens,
  seededRandom,
  untilPreempted,
  withModel,
} from './engine-under-test';

const PAGE_TOKENS = 16;

/** `kvCache.memory` for a number of pages of the float32 fixture with a bf16 cache. */
async function bytesPerPage(): Promise<number> {
  return withModel({}, async (model) => model.info.kvBytesPerToken * PAGE_TOKENS);
}

/** Requests of all sizes, some with a shared prefix, penalties, biases and evaluations' length. */
function mixedRequests(count: number, seed: number): GenerateOptions[] {
  const random = seededRandom(seed);
  const shared = randomTokens(70, random);
  return Array.from({ length: count }, (_, i) => {
    const own = randomTokens(1 + Math.floor(random() * 120), random);
    return endless(i % 3 === 0 ? [...shared, ...own] : own, {
      seed: i,
      maxTokens: 20 + Math.floor(random() * 100),
      temperature: i % 4 === 0 ? 0 : 0.9,
      ...(i % 5 === 0 ? { repetitionPenalty: 1.2, frequencyPenalty: 0.5 } : {}),
      ...(i % 7 === 0 ? { topK: 40, topP: 0.9, minP: 0.01 } : {}),
      priority: (i % 3) - 1,
    });
  });
}

async function alone(model: Model, requests: readonly GenerateOptions[]): Promise<(readonly number[])[]> {
  const answers: (readonly number[])[] = [];
  for (const request of requests) answers.push((await model.generate(request)).tokens);
  return answers;
}

describe('many requests at once', () => {
  test('over a pool that forces preemption, 32 answers equal those of solo runs, and all pages come back', async () => {
    const requests = mixedRequests(32, 3);
    const expected = await withModel({ maxConcurrency: 1, kvCache: { prefixCache: false } }, (model) =>
      alone(model, requests),
    );
    const memory = 48 * (await bytesPerPage());
    await withModel({ maxConcurrency: 32, kvCache: { memory } }, async (model) => {
      let numRounds = 0;
      await untilPreempted(model, async () => {
        const answers = await Promise.all(requests.map((request) => model.generate(request)));
        for (const [i, { tokens }] of answers.entries()) expect(tokens, `request ${i}`).toEqual(expected[i]);
        numRounds += 1;
      });
      const stats = await model.stats();
      expect(stats.numPages).toBe(48);
      expect(stats.prefixHitTokens).toBeGreaterThan(0);
      const numTokens = expected.reduce((sum, tokens) => sum + tokens.length, 0);
      expect(stats.generatedTokens).toBe(numRounds * numTokens);
      await expectDrained(model);
    });
  });

  test('1,000 cancels spread over all phases leak nothing', async () => {
    const random = seededRandom(9);
    const memory = 64 * (await bytesPerPage());
    await withModel(
      { maxConcurrency: 16, maxQueuedRequests: 64, maxStepTokens: 64, kvCache: { memory } },
      async (model) => {
        const outcomes = new Map<string, number>();
        const count = (outcome: string) => outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        let numStarted = 0;
        const client = async (): Promise<void> => {
          while (numStarted < 1000) {
            numStarted += 1;
            await cancelSomewhere(model, random, count);
          }
        };
        await Promise.all(Array.from({ length: 40 }, client));
        const total = [...outcomes.values()].reduce((sum, n) => sum + n, 0);
        expect(total).toBe(1000);
        expect(outcomes.get('aborted')).toBeGreaterThan(700);
        expect([...outcomes.keys()].filter((key) => key !== 'aborted' && key !== 'finished')).toEqual([]);
        await expectDrained(model);
        expect((await model.generate(endless([1, 2, 3], { maxTokens: 5 }))).tokens).toHaveLength(5);
      },
    );
  });

  test('beyond the queue are refused at once, and only those, also when they come in a flood', async () => {
    await withModel({ maxConcurrency: 2, maxQueuedRequests: 3 }, async (model) => {
      const runs = Array.from({ length: 9 }, (_, seed) =>
        model.generate(endless([1, 2, 3], { maxTokens: 50, seed })),
      );
      const outcomes = await Promise.allSettled(runs.map(({ result }) => result));
      const refused = outcomes.filter(({ status }) => status === 'rejected');
      expect(refused).toHaveLength(4);
      for (const outcome of refused) {
        expect(outcome).toMatchObject({ reason: { code: 'queue_full', retryable: true } });
        expect((outcome as PromiseRejectedResult).reason.details).toHaveProperty('retryAfterMs');
      }
      const flood = Array.from(
        { length: 500 },
        () => model.generate({ prompt: 'hello', maxTokens: 2 }).result,
      );
      const numRefused = (await Promise.allSettled(flood)).filter(
        ({ status }) => status === 'rejected',
      ).length;
      expect(numRefused).toBeGreaterThanOrEqual(500 - 10);
      expect(numRefused).toBeLessThanOrEqual(500 - 5);
      await expectDrained(model);
    });
  });

  test('that could never fit are refused by arithmetic, with the sizes', async () => {
    const memory = 4 * (await bytesPerPage());
    await withModel({ contextLength: 64, kvCache: { memory } }, async (model) => {
      expect((await model.generate(endless([1, 2, 3]))).tokens).toHaveLength(61);
      await expect(model.generate(endless(randomTokens(65, seededRandom(1))))).rejects.toMatchObject({
        code: 'context_length_exceeded',
        details: { promptTokens: 65, contextLength: 64 },
      });
    });
  });

  test('run in the order of their priority', async () => {
    await withModel({ maxConcurrency: 1 }, async (model) => {
      const order: number[] = [];
      const blocker = model.generate(endless([5], { maxTokens: 100 }));
      await blocker[Symbol.asyncIterator]().next();
      const runs = [0, -5, 7].map((priority) =>
        model.generate(endless([1, 2, 3], { maxTokens: 3, priority })).then(() => order.push(priority)),
      );
      await Promise.all([blocker, ...runs]);
      expect(order).toEqual([7, 0, -5]);
    });
  });
});

/** Starts a request, cancels it at a random moment of its life, and waits until it has ended. */
async function cancelSomewhere(
  model: Model,
  random: () => number,
  count: (outcome: string) => void,
): Promise<void> {
  const controller = new AbortController();
  const tokens = randomTokens(1 + Math.floor(random() * 300), random);
  const run = model.generate(endless(tokens, { maxTokens: 120, seed: 1, signal: controller.signal }));
  const moment = Math.floor(random() * 4);
  try {
    if (moment === 0) controller.abort();
    else if (moment === 1) setImmediate(() => controller.abort());
    else if (moment === 2) setTimeout(() => controller.abort(), random() * 60);
    else {
      let left = 1 + Math.floor(random() * 30);
      for await (const _ of run) {
        left -= 1;
        if (left > 0) continue;
        controller.abort();
      }
    }
    await run;
    count('finished');
  } catch (error) {
    count((error as { code: string }).code);
  }
}
