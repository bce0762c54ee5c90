import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { GenerateOptions, LoadModelOptions, Model } from '../../lib/engine/types';
import {
  type Answer,
  AutoglmError,
  answer,
  endless,
  expectDrained,
  Fixture,
  randomTokens,
  seededRandom,
  stretchedFixture,
  untilPreempted,
  withEngine,
  withModel,
} from './engine-under-test';

/** The float32 fixture with two tokens in each other's place; the caller removes the folder. */
function fixtureOfOtherWords(): string {
  const folder = stretchedFixture(512);
  const path = join(folder, 'tokenizer.json');
  const tokenizer = JSON.parse(readFileSync(path, 'utf8'));
  const { vocab } = tokenizer.model as { vocab: Record<string, number> };
  const [first, second] = Object.keys(vocab)
    .sort((a, b) => (vocab[a] ?? 0) - (vocab[b] ?? 0))
    .slice(40) as [string, string];
  [vocab[first], vocab[second]] = [vocab[second] as number, vocab[first] as number];
  writeFileSync(path, JSON.stringify(tokenizer));
  return folder;
}

const guessing = (draftModel: string, maxTokens = 5): Partial<LoadModelOptions> => ({
  speculation: { mode: 'draft-model', draftModel, maxTokens, adaptive: false },
});

/** Two models with weights of their own agree on a token now and then when few tokens are likely. */
const request = (length: number, overrides: Partial<GenerateOptions> = {}): GenerateOptions =>
  endless(randomTokens(length, seededRandom(length)), {
    maxTokens: 50,
    logprobs: 3,
    logitBias: Object.fromEntries([10, 20, 30].map((token) => [token, 60])),
    ...overrides,
  });

const REQUESTS: readonly GenerateOptions[] = [
  request(5, { temperature: 0 }),
  request(20, { temperature: 1, seed: 1 }),
  request(33, { temperature: 1.3, seed: 2, topK: 3, minP: 0.01 }),
  request(47, { temperature: 0.7, seed: 3, frequencyPenalty: 1.5, presencePenalty: -1 }),
  request(64, { temperature: 0, repetitionPenalty: 1.4 }),
  request(81, { temperature: 1, seed: 4, maxTokens: 7 }),
];

const allAnswers = (model: Model): Promise<Answer[]> =>
  Promise.all(REQUESTS.map((each) => answer(model, each)));

const plainAnswers = (options: Partial<LoadModelOptions>): Promise<Answer[]> =>
  withModel({ ...options, kvCache: { prefixCache: false } }, allAnswers);

// Goal: a draft model changes nothing but the number of steps. Method: ids and log-probabilities, bit for bit, against the
// same requests without it. A model that guesses for itself is always right; another one often is not.
describe.each([
  ['itself', { source: Fixture.q4 }, Fixture.q4],
  ['another model', { source: Fixture.q4 }, Fixture.float32],
  ['another model, exact', { source: Fixture.float32, precision: 'exact' }, Fixture.q4],
] as const)('a model that has its tokens guessed by %s', (name, options, draftModel) => {
  const reference = plainAnswers(options);
  reference.catch(() => {});
  const drafted = { ...options, ...guessing(draftModel) };

  test('answers the same alone', async () => {
    await withModel(drafted, async (model) => {
      for (const [i, each] of REQUESTS.entries())
        expect(await answer(model, each)).toEqual((await reference)[i]);
      const { draftedTokens, acceptedTokens, steps, generatedTokens } = await model.stats();
      if (name === 'itself') expect(acceptedTokens).toBe(draftedTokens);
      else expect(draftedTokens).toBeGreaterThan(acceptedTokens);
      expect(acceptedTokens).toBeGreaterThan(generatedTokens / 10);
      expect(steps).toBeLessThanOrEqual(generatedTokens - acceptedTokens + REQUESTS.length);
    });
  });

  test('answers the same in a batch, from cached prefixes, and in small steps', async () => {
    await withModel(drafted, async (model) => {
      expect(await allAnswers(model)).toEqual(await reference);
      expect(await allAnswers(model)).toEqual(await reference);
      expect((await model.stats()).prefixHitTokens).toBeGreaterThan(0);
    });
    await withModel(
      { ...drafted, maxStepTokens: 16, maxChunkTokens: 5, maxConcurrency: 3 },
      async (model) => {
        expect(await allAnswers(model)).toEqual(await reference);
      },
    );
  });

  test('answers the same after preemption, and where guesses are made only when they pay', async () => {
    const pageBytes = await withModel(options, async ({ info }) => info.kvBytesPerToken * 16);
    await withModel({ ...drafted, kvCache: { memory: 16 * pageBytes } }, async (model) => {
      await untilPreempted(model, async () => expect(await allAnswers(model)).toEqual(await reference));
      await expectDrained(model);
    });
    await withModel({ ...options, speculation: { mode: 'draft-model', draftModel } }, async (model) => {
      expect(await allAnswers(model)).toEqual(await reference);
    });
  });
});

describe('a draft model', () => {
  test('is told of, with the memory it takes', async () => {
    await withModel({ source: Fixture.q4, ...guessing(Fixture.float32) }, async ({ info }) => {
      expect(info.draftModel).toMatchObject({ source: Fixture.float32, family: 'llama', contextLength: 512 });
      expect(info.draftModel?.weightBytes).toBeGreaterThan(info.weightBytes);
      expect(info.draftModel?.kvBytes).toBeGreaterThan(0);
    });
    await withModel({ source: Fixture.q4 }, async ({ info }) => expect(info.draftModel).toBeNull());
  });

  test('leaves nothing behind when answers are aborted beside its steps', async () => {
    await withModel({ source: Fixture.q4, ...guessing(Fixture.float32) }, async (model) => {
      for (const count of [1, 2, 5, 20]) {
        const generations = [1, 2, 3].map((seed) => model.generate(request(30, { seed, maxTokens: 400 })));
        for (const generation of generations) {
          let numTokens = 0;
          for await (const event of generation) {
            if ('tokens' in event) numTokens += event.tokens.length;
            if (numTokens >= count) break;
          }
          await expect(generation.result).rejects.toMatchObject({ code: 'aborted' });
        }
      }
      await expectDrained(model);
      expect((await answer(model, REQUESTS[0] as GenerateOptions)).length).toBe(50);
    });
  });

  test('ends answers at the same stop string and token', async () => {
    await withModel({ source: Fixture.q4, ...guessing(Fixture.q4) }, async (model) => {
      const off = { speculation: 'off' } as const;
      const whole = await model.generate({ ...request(30), ...off });
      for (const stop of [whole.text.slice(9, 13), whole.text.slice(-3)]) {
        const { text, tokens, finishReason, usage } = await model.generate({ ...request(30), stop });
        const plain = await model.generate({ ...request(30), stop, ...off });
        expect({ text, tokens, finishReason }).toEqual({
          text: plain.text,
          tokens: plain.tokens,
          finishReason: plain.finishReason,
        });
        expect(usage.draftedTokens).toBeGreaterThan(0);
        expect(plain.usage.draftedTokens).toBe(0);
      }
    });
  });

  test('serves beside prompt lookup, adapters and evaluations of the same model', async () => {
    await withModel({ source: Fixture.q4, ...guessing(Fixture.q4) }, async (model) => {
      const lookup = { mode: 'prompt-lookup', adaptive: false } as const;
      const [guessed, looked, scores] = await Promise.all([
        answer(model, request(40)),
        answer(model, { ...request(40), speculation: lookup }),
        model.score(randomTokens(40, seededRandom(1))),
      ]);
      expect(looked).toEqual(guessed);
      expect(scores).toHaveLength(39);
    });
  });

  test('is gone when the model is closed in the middle of a round', async () => {
    await withEngine(async (engine) => {
      const model = await engine.loadModel({ source: Fixture.q4, ...guessing(Fixture.float32) });
      const { result } = model.generate(request(30, { maxTokens: 400 }));
      result.catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 20));
      await model.close();
      await expect(result).rejects.toMatchObject({ code: 'engine_closed' });
      const again = await engine.loadModel({ source: Fixture.q4, ...guessing(Fixture.float32) });
      expect((await answer(again, request(5))).length).toBe(50);
    });
  });
});

describe('loading refuses', () => {
  const load = (speculation: unknown, source: string = Fixture.q4): Promise<unknown> =>
    withModel({ source, speculation: speculation as never }, async () => {});

  test('a draft model of another vocabulary, and says where it differs', async () => {
    const draftModel = fixtureOfOtherWords();
    const error = await load({ mode: 'draft-model', draftModel }).catch((reason: unknown) => reason);
    expect(AutoglmError.is(error) && error.code).toBe('invalid_parameter');
    rmSync(draftModel, { recursive: true });
    const { message, hint, details } = error as InstanceType<typeof AutoglmError>;
    expect(message).toMatch(/to have the model's vocabulary, but token 40 is .+ in it and .+ in the model/);
    expect(hint).toMatch(/same family/);
    expect(details).toMatchObject({ path: 'speculation.draftModel' });
  });

  test.each([
    [{ mode: 'draft-model' }, /speculation.draftModel to be the source of a model/],
    [{ mode: 'draft-model', draftModel: '' }, /speculation.draftModel to be a well-formed string of 1/],
    [{ mode: 'prompt-lookup', draftModel: 'x' }, /speculation.draftModel to be absent/],
    [{ mode: 'draft-model', draftModel: Fixture.q4, maxTokens: 0 }, /speculation.maxTokens to be an integer/],
    [{ mode: 'draft-model', draftModel: '/nowhere/at-all' }, /nowhere/],
  ])('%j', async (speculation, message) => {
    await expect(load(speculation)).rejects.toThrow(message);
  });

  test('guesses by a draft model where there is none', async () => {
    await withModel({ source: Fixture.q4 }, async (model) => {
      const wrong = { ...request(5), speculation: { mode: 'draft-model' } } as const;
      await expect(model.generate(wrong).result).rejects.toThrow(/loaded without a draft model/);
    });
  });
});
