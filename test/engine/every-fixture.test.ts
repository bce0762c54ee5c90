import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, GenerateOptions, LoadModelOptions, Model } from '../../lib/engine/types';
import { FIXTURES, fixturePath, STORED_FIXTURES } from '../parity/fixtures';
import {
  type Answer,
  answer,
  createEngine,
  endless,
  randomTokens,
  seededRandom,
  untilPreempted,
} from './engine-under-test';

// Goal: batching, chunks, cached prefixes and preemption are invisible in the numbers of every family: windows, rope
// tables of short and long requests, layers without rotation, learned positions, experts; and of every stored format.
// Method: ids and log-probabilities of one set of requests, each alone, compared bit for bit with those of the same
// requests together in small steps, with cached prefixes, in a cache too small for them, and on one thread. Prompts begin alike,
// reach past every fixture's window, and lie on both sides of the length where longrope changes its table.

const NUM_NEW_TOKENS = 24;
const PROMPT_LENGTHS = [3, 40, 90, 110, 118, 150];

const requests: readonly GenerateOptions[] = (() => {
  const tokens = randomTokens(Math.max(...PROMPT_LENGTHS), seededRandom(33));
  return PROMPT_LENGTHS.map((length, i) =>
    endless(tokens.slice(0, length), {
      maxTokens: NUM_NEW_TOKENS,
      logprobs: 2,
      seed: i,
      temperature: i % 2 === 0 ? 0 : 0.8,
    }),
  );
})();

const together = (model: Model): Promise<Answer[]> =>
  Promise.all(requests.map((request) => answer(model, request)));

/** Requests that say four tokens over and over, so that what comes next can be guessed now and then. */
const repetitive = requests.map((request) => ({
  ...request,
  logitBias: Object.fromEntries([11, 22, 33, 44].map((token) => [token, 80])),
}));
const guessing = { mode: 'prompt-lookup', maxTokens: 6, adaptive: false } as const;

let engine: Engine;
let singleThreaded: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  singleThreaded = await createEngine({ threads: 1 });
});
afterAll(() => Promise.all([engine.close(), singleThreaded.close()]));

async function withFixture<T>(
  engine: Engine,
  name: string,
  options: Partial<LoadModelOptions>,
  body: (model: Model) => Promise<T>,
): Promise<T> {
  const model = await engine.loadModel({ source: fixturePath(name), contextLength: 176, ...options });
  try {
    return await body(model);
  } finally {
    await model.close();
  }
}

const isLatent = (name: string): boolean => name.startsWith('glm4-moe-lite');

/** Caches and the fixtures they are tried with: an int8 one does not go with latents. */
const CACHES = [
  ['bf16', [...FIXTURES, ...STORED_FIXTURES]],
  ['int8', FIXTURES.filter((name) => !isLatent(name))],
] as const;

describe.each(CACHES.flatMap(([dtype, names]) => names.map((name) => [name, dtype] as const)))(
  '%s with a cache of %s',
  (name, dtype) => {
    test('answers alone, together, from cached prefixes, after preemption and on one thread are the same', async () => {
      const alone: Answer[] = [];
      const uncached = { dtype, prefixCache: false };
      const pageBytes = await withFixture(engine, name, { kvCache: uncached }, async (model) => {
        for (const request of requests) alone.push(await answer(model, request));
        return model.info.kvBytesPerToken * 16;
      });
      await withFixture(engine, name, { maxStepTokens: 48, kvCache: { dtype } }, async (model) => {
        expect(await together(model), 'together, in steps of 48 positions').toEqual(alone);
        const before = (await model.stats()).prefixHitTokens;
        expect(await together(model), 'with cached prefixes').toEqual(alone);
        expect((await model.stats()).prefixHitTokens).toBeGreaterThan(before);
      });
      await withFixture(engine, name, { kvCache: { dtype } }, async (model) => {
        const plain = await Promise.all(repetitive.map((request) => answer(model, request)));
        const guessed = repetitive.map((request) => answer(model, { ...request, speculation: guessing }));
        expect(await Promise.all(guessed), 'with guesses').toEqual(plain);
        expect((await model.stats()).acceptedTokens).toBeGreaterThan(0);
      });
      // Eleven pages are one full sequence; the first three requests begin together with ten and come to need fourteen.
      await withFixture(engine, name, { kvCache: { ...uncached, memory: 12 * pageBytes } }, async (model) => {
        await untilPreempted(model, async () => expect(await together(model), 'in 12 pages').toEqual(alone));
      });
      // Prompts are cut while others decode, and the short ones do from the second step on.
      await withFixture(singleThreaded, name, { maxChunkTokens: 7, kvCache: { dtype } }, async (model) => {
        expect(await together(model), 'on one thread, in chunks of 7').toEqual(alone);
      });
    });
  },
);

test('a cache of fp8 is refused on the processor, before the model is looked for', async () => {
  const loading = engine.loadModel({ source: 'no/such/model', kvCache: { dtype: 'fp8' } });
  await expect(loading).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringContaining("'bf16', 'int8' or 'f32' on the processor"),
    details: { path: 'kvCache.dtype' },
  });
});

test.each(FIXTURES.filter(isLatent))(
  '%s refuses a cache of int8 before its weights are read',
  async (name) => {
    const loading = withFixture(engine, name, { kvCache: { dtype: 'int8' } }, async () => {});
    await expect(loading).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringMatching(
        /kvCache\.dtype to be "bf16" or "f32" for a model with latent attention/,
      ),
      details: { path: 'kvCache.dtype' },
    });
  },
);
