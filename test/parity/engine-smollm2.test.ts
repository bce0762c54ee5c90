import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { createEngine, type Engine, type Model } from '../../dist/index.js';
import { expectGreedy } from './greedy';
import { loadSmollm2, type ReferencePosition, smollm2Reference } from './smollm2';

const MAX_RELATIVE_ERROR = 1e-3;
const reference = smollm2Reference();

let engine: Engine;
let loaded: Model | string;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  loaded = await loadSmollm2(engine, {
    precision: 'exact',
    contextLength: 2048,
    kvCache: { memory: '256MiB' },
  });
});
afterAll(() => engine.close());

/** Skips the test, saying why, where the model cannot be had. */
function modelFor({ skip }: TestContext): Model {
  return typeof loaded === 'string' ? skip(`SmolLM2 cannot be fetched: ${loaded}`) : loaded;
}

/** Largest error at the ids that the reference kept, as a share of its largest logit. */
function errorAt(row: Float32Array, { maxAbs, topIds, topLogits, sampled }: ReferencePosition): number {
  const ids = [...topIds, ...reference.sampledIds];
  const expected = [...topLogits, ...sampled];
  const errors = ids.map((id, i) => Math.abs((row[id] as number) - (expected[i] as number)) / maxAbs);
  return errors.some(Number.isNaN) ? Number.NaN : Math.max(...errors);
}

// Goal: the real model, quantized as it ships, computes what transformers computes from the same file in float32.
describe.each(reference.prompts)('$text', ({ kind, message, text, tokens, newTokens, positions }) => {
  test('its tokens are those of the reference tokenizer', async (context) => {
    const model = modelFor(context);
    expect([...(await model.tokenize(text, { parseSpecialTokens: kind === 'chat' }))]).toEqual(tokens);
    if (message !== undefined) {
      expect(await model.renderPrompt([{ role: 'user', content: message }])).toBe(text);
    }
  });

  test('logits after the prompt and after each of 64 tokens equal the reference', async (context) => {
    const model = modelFor(context);
    const all = [...tokens, ...newTokens.slice(0, -1)];
    const wanted = newTokens.map((_, i) => tokens.length - 1 + i);
    const logits = await model.logits(all, { positions: wanted });
    const vocabSize = logits.length / wanted.length;
    for (const [i, position] of positions.entries()) {
      const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
      expect(errorAt(row, position), `token ${i} of the answer`).toBeLessThanOrEqual(MAX_RELATIVE_ERROR);
    }
  });

  test('greedy tokens equal the reference where its margin decides', async (context) => {
    const model = modelFor(context);
    const isDecided = (i: number): boolean => {
      const { topLogits, maxAbs } = positions[i] as ReferencePosition;
      const [best = 0, second = 0] = topLogits;
      return best - second > MAX_RELATIVE_ERROR * maxAbs;
    };
    expect(await expectGreedy(model, { tokens, newTokens, isDecided })).toBeGreaterThan(50);
  });
});

test('log-probabilities of a licence text equal the reference', async (context) => {
  const model = modelFor(context);
  const { tokens, logprobs } = reference.licence;
  const actual = await model.score(tokens);
  expect(actual).toHaveLength(logprobs.length);
  const worst = logprobs.reduce(
    (max, logprob, i) => Math.max(max, Math.abs(logprob - (actual[i] as number))),
    0,
  );
  // Logits reach 30, so the bound on a logit is 0.03; a log-probability is the difference of two such numbers.
  expect(worst).toBeLessThanOrEqual(0.03);
  const mean = (values: ArrayLike<number>): number =>
    Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
  expect(Math.exp(-mean(actual)) / Math.exp(-mean(logprobs))).toBeCloseTo(1, 3);
}, 300_000);
