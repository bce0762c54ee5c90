import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type Model } from '../../dist/index.js';
import { ADAPTERS, fixturePath, fixtureReference, relativeError } from './fixtures';

/** The bound of the project: the largest error, as a share of the reference's largest logit. */
const MAX_RELATIVE_ERROR = 1e-3;

/** GGUF adapters have the numbers, and so the reference, of a PEFT one. */
const CASES = [
  ['llama-f32', 'llama-patterns', 'llama-patterns'],
  ['llama-f32', 'llama-rslora', 'llama-rslora'],
  ['llama-f32', 'llama-plain', 'llama-plain'],
  ['llama-f32', 'llama-plain.gguf', 'llama-plain'],
  ['gpt2-f32', 'gpt2-fused', 'gpt2-fused'],
  ['phi3-f16', 'phi3-fused', 'phi3-fused'],
  ['gemma2-f32', 'gemma2-sandwich', 'gemma2-sandwich'],
] as const;

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.close());

async function withAdapted<T>(base: string, source: string, body: (model: Model) => Promise<T>): Promise<T> {
  const model = await engine.loadModel({
    source: fixturePath(base),
    precision: 'exact',
    contextLength: 128,
    kvCache: { memory: '8MiB' },
  });
  try {
    await model.loadAdapter({ source: join(ADAPTERS, source), name: 'fixture' });
    return await body(model);
  } finally {
    await model.close();
  }
}

// Goal: an adapter adds what peft adds: ranks and scales by module, fused targets, norms behind the sub-layers.
// Method: logits and greedy tokens of peft on top of transformers in float32, made by make_adapters.py.
describe.each(CASES)('%s with %s', (base, source, name) => {
  test('logits and decided greedy tokens equal those of peft', async () => {
    await withAdapted(base, source, async (model) => {
      const { vocabSize, prompts } = fixtureReference(name);
      let numDecided = 0;
      for (const { tokens, positions, logits, newTokens, margins, maxAbs } of prompts) {
        const actual = await model.logits(tokens, { positions, adapter: 'fixture' });
        for (const [i, position] of positions.entries()) {
          const row = actual.subarray(i * vocabSize, (i + 1) * vocabSize);
          const error = relativeError(row, logits[i] as Float32Array);
          expect(error, `${tokens.length} tokens, position ${position}`).toBeLessThanOrEqual(
            MAX_RELATIVE_ERROR,
          );
        }
        const undecided = margins.findIndex(
          (margin, i) => margin <= MAX_RELATIVE_ERROR * (maxAbs[i] as number),
        );
        const decided = undecided < 0 ? newTokens : newTokens.slice(0, undecided);
        if (decided.length === 0) continue;
        const options = { temperature: 0, ignoreEos: true, adapter: 'fixture' };
        const answer = await model.generate({ tokens, maxTokens: decided.length, ...options });
        expect(answer.tokens).toEqual(decided);
        numDecided += decided.length;
      }
      expect(numDecided, 'tokens that the margin decided').toBeGreaterThan(8);
    });
  });
});

// int8 activations and weights of 4 bits are off by some percent; an adapter of another base, or none, by far more.
test('an adapter in fast mode is as near to exact mode as its base model is', async () => {
  const source = fixturePath('llama-q4_0');
  const { tokens } = fixtureReference('llama-plain').prompts[1] as { tokens: readonly number[] };
  const rows: Record<string, Float32Array> = {};
  for (const precision of ['fast', 'exact'] as const) {
    const model = await engine.loadModel({ source, precision, contextLength: 128 });
    await model.loadAdapter({ source: join(ADAPTERS, 'llama-plain'), name: 'fixture' });
    rows[`${precision} base`] = await model.logits(tokens);
    rows[precision] = await model.logits(tokens, { adapter: 'fixture' });
    await model.close();
  }
  const base = relativeError(rows['fast base'] as Float32Array, rows['exact base'] as Float32Array);
  const adapted = relativeError(rows.fast as Float32Array, rows.exact as Float32Array);
  const change = relativeError(rows.exact as Float32Array, rows['exact base'] as Float32Array);
  expect(adapted).toBeLessThan(3 * base);
  expect(change).toBeGreaterThan(10 * adapted);
});

test('the fixtures name no file of the machine that made them', () => {
  for (const [, source] of CASES.filter(([, each]) => !each.endsWith('.gguf'))) {
    const config = readFileSync(join(ADAPTERS, source, 'adapter_config.json'), 'utf8');
    expect(config).not.toContain('/');
  }
});
