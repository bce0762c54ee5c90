import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Engine, Model } from '../../lib/engine/types';
import { createEngine, endless, Fixture, randomTokens, seededRandom, VOCAB_SIZE } from './engine-under-test';

let engine: Engine;
let model: Model;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  model = await engine.loadModel({ source: Fixture.float32, precision: 'exact' });
});
afterAll(() => engine.close());

const tokens = randomTokens(40, seededRandom(8));
const row = (logits: Float32Array, i: number): Float32Array =>
  logits.subarray(i * VOCAB_SIZE, (i + 1) * VOCAB_SIZE);

function logSoftmax(logits: Float32Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - max), 0);
  return Float64Array.from(logits, (logit) => logit - max - Math.log(sum));
}

test('logits come for the positions asked for, in that order, repeats and all', async () => {
  const all = await model.logits(tokens, { positions: tokens.map((_, i) => i) });
  expect(all).toHaveLength(tokens.length * VOCAB_SIZE);
  expect(all.every(Number.isFinite)).toBe(true);
  const some = await model.logits(tokens, { positions: [-1, 3, 3, 0] });
  expect(row(some, 0)).toEqual(row(all, 39));
  expect(row(some, 1)).toEqual(row(all, 3));
  expect(row(some, 2)).toEqual(row(all, 3));
  expect(row(some, 3)).toEqual(row(all, 0));
  expect(await model.logits(tokens)).toEqual(row(all, 39));
});

test('scores are the log-probabilities of those logits', async () => {
  const all = await model.logits(tokens, { positions: tokens.map((_, i) => i) });
  const scores = await model.score(tokens);
  expect(scores).toHaveLength(tokens.length - 1);
  for (const [i, score] of scores.entries()) {
    expect(score).toBeCloseTo(logSoftmax(row(all, i))[tokens[i + 1] as number] as number, 4);
  }
  expect(await model.score([5])).toHaveLength(0);
});

test('greedy generation takes the likeliest of those logits', async () => {
  const {
    tokens: [first],
    logprobs = [],
  } = await model.generate(endless(tokens, { temperature: 0, maxTokens: 1, logprobs: 1 }));
  const expected = logSoftmax(await model.logits(tokens));
  expect(first).toBe(expected.indexOf(Math.max(...expected)));
  expect(logprobs[0]?.logprob).toBeCloseTo(Math.max(...expected), 4);
});

test.each<[string, (loaded: Model) => Promise<unknown>, RegExp]>([
  ['no tokens', (loaded) => loaded.logits([]), /expected tokens/],
  ['a token out of range', (loaded) => loaded.score([0, 384]), /tokens\[1\].*0\.\.383, got 384/],
  [
    'a position out of range',
    (loaded) => loaded.logits([1, 2], { positions: [2] }),
    /positions\[0\].*-2\.\.1, got 2/,
  ],
  [
    'a position before the start',
    (loaded) => loaded.logits([1, 2], { positions: [0, -3] }),
    /positions\[1\]/,
  ],
  ['no positions', (loaded) => loaded.logits([1], { positions: [] }), /expected positions/],
  [
    'an unknown option',
    (loaded) => loaded.logits([1], { position: 1 } as never),
    /position is not a known option/,
  ],
  [
    'more logits than a call may return',
    (loaded) => loaded.logits([1], { positions: new Array(800_000).fill(0) }),
    /at most 699050 positions/,
  ],
])('%s is refused', async (_what, call, message) => {
  await expect(call(model)).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringMatching(message),
  });
});

test('an evaluation may fill the context, and not exceed it', async () => {
  const { contextLength } = model.info;
  const full = randomTokens(contextLength, seededRandom(9));
  expect(await model.score(full)).toHaveLength(contextLength - 1);
  await expect(model.score([...full, 1])).rejects.toMatchObject({ code: 'context_length_exceeded' });
});
