import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEngine, type Engine, type Model } from '../../dist/index.js';

const root = join(__dirname, '..', '..');
const WINDOW = 512;
const NUM_WINDOWS = 4;

let engine: Engine;
let exact: Model;
let fast: Model;
let int8Cache: Model;
let tokens: Int32Array;

beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  const options = { source: 'smollm2-135m-instruct', contextLength: 1024, kvCache: { memory: '256MiB' } };
  exact = await engine.loadModel({ ...options, precision: 'exact' });
  fast = await engine.loadModel({ ...options, precision: 'fast' });
  const kvCache = { ...options.kvCache, dtype: 'int8' } as const;
  int8Cache = await engine.loadModel({ ...options, kvCache, precision: 'fast' });
  const text = `${readFileSync(join(root, 'LICENSE'), 'utf8')}\n${readFileSync(join(root, 'docs', 'architecture.md'), 'utf8')}`;
  tokens = await exact.tokenize(text);
});
afterAll(() => engine.close());

/** log(sum(exp(logits))) in float64. */
function logSumExp(logits: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > max) max = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  return max + Math.log(sum);
}

/** KL(p || q) in nats from two rows of logits. */
function divergence(p: Float32Array, q: Float32Array): number {
  const normP = logSumExp(p);
  const normQ = logSumExp(q);
  let sum = 0;
  for (let i = 0; i < p.length; i += 1) {
    const logP = (p[i] as number) - normP;
    sum += Math.exp(logP) * (logP - ((q[i] as number) - normQ));
  }
  return sum;
}

// Goal: int8 activations and a cache of bf16 or int8 cost no more than they must.
// Method: mean KL over 2,044 positions of real text, in windows of 512 tokens. The bounds are the project's own;
// llama.cpp measures 0.0036 on this file with the same group size, and 0.0039 with a cache of q8_0, which has a scale
// for every 32 numbers where int8 has one for a head's 64.
test('fast stays within 0.005 nats of exact, 0.007 with a cache of int8, and within 1 % of its perplexity', async () => {
  expect(tokens.length, 'tokens of the text').toBeGreaterThanOrEqual(WINDOW * NUM_WINDOWS);
  const kl = { bf16: 0, int8: 0, bf16ToInt8: 0 };
  const loss = { exact: 0, bf16: 0, int8: 0 };
  let count = 0;
  for (let w = 0; w < NUM_WINDOWS; w += 1) {
    const window = tokens.slice(w * WINDOW, (w + 1) * WINDOW);
    const positions = Array.from({ length: WINDOW - 1 }, (_, i) => i);
    const logits = {
      exact: await exact.logits(window, { positions }),
      bf16: await fast.logits(window, { positions }),
      int8: await int8Cache.logits(window, { positions }),
    };
    const vocabSize = logits.exact.length / positions.length;
    for (const i of positions) {
      const row = (all: Float32Array): Float32Array => all.subarray(i * vocabSize, (i + 1) * vocabSize);
      const target = window[i + 1] as number;
      for (const name of ['exact', 'bf16', 'int8'] as const) {
        loss[name] += logSumExp(row(logits[name])) - (row(logits[name])[target] as number);
      }
      kl.bf16 += divergence(row(logits.exact), row(logits.bf16));
      kl.int8 += divergence(row(logits.exact), row(logits.int8));
      kl.bf16ToInt8 += divergence(row(logits.bf16), row(logits.int8));
      count += 1;
    }
  }
  const mean = (sums: Readonly<Record<string, number>>) =>
    Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / count]));
  const figures = JSON.stringify({ count, meanKl: mean(kl), meanLoss: mean(loss) });
  expect(count).toBeGreaterThanOrEqual(2_000);
  expect(kl.bf16 / count, figures).toBeLessThanOrEqual(0.005);
  expect(kl.int8 / count, figures).toBeLessThanOrEqual(0.007);
  for (const name of ['bf16', 'int8'] as const) {
    expect(Math.abs(Math.exp((loss[name] - loss.exact) / count) - 1), figures).toBeLessThanOrEqual(0.01);
  }
}, 300_000);

test('score gives the log-probabilities that logits give', async () => {
  const window = tokens.slice(0, 64);
  const positions = Array.from({ length: window.length - 1 }, (_, i) => i);
  const [scores, logits] = [await exact.score(window), await exact.logits(window, { positions })];
  const vocabSize = logits.length / positions.length;
  for (const i of positions) {
    const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
    // float32 log-softmax over 49,152 terms: a few units in the last place of the logits.
    expect(scores[i], `token ${i + 1}`).toBeCloseTo(
      (row[window[i + 1] as number] as number) - logSumExp(row),
      3,
    );
  }
});
