import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type Model } from '../../dist/index.js';
import { FIXTURES, fixturePath, fixtureReference, relativeError, STORED_FIXTURES } from './fixtures';
import { expectGreedy } from './greedy';

/** The bound of the project: the largest error, as a share of the reference's largest logit. */
const MAX_RELATIVE_ERROR = 1e-3;

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.close());

// Goal: the whole path, from file to logits, computes what transformers computes in float32.
// Method: every position that the reference kept; then greedy tokens wherever the reference's two best logits are
// further apart than the bound.
describe.each([...FIXTURES, ...STORED_FIXTURES])('%s', (name) => {
  let model: Model;
  beforeAll(async () => {
    model = await engine.loadModel({
      source: fixturePath(name),
      precision: 'exact',
      contextLength: 512,
      kvCache: { memory: '8MiB' },
    });
  });
  afterAll(() => model.close());

  test('logits equal those of transformers at every position', async () => {
    const { vocabSize, prompts } = fixtureReference(name);
    for (const { tokens, positions, logits } of prompts) {
      const actual = await model.logits(tokens, { positions });
      expect(actual).toHaveLength(positions.length * vocabSize);
      for (const [i, position] of positions.entries()) {
        const error = relativeError(
          actual.subarray(i * vocabSize, (i + 1) * vocabSize),
          logits[i] as Float32Array,
        );
        expect(error, `prompt of ${tokens.length} tokens, position ${position}`).toBeLessThanOrEqual(
          MAX_RELATIVE_ERROR,
        );
      }
    }
  });

  test('greedy tokens equal those of transformers where its margin decides', async () => {
    let numDecided = 0;
    for (const { tokens, newTokens, margins, maxAbs } of fixtureReference(name).prompts) {
      const isDecided = (i: number): boolean =>
        (margins[i] as number) > MAX_RELATIVE_ERROR * (maxAbs[i] as number);
      numDecided += await expectGreedy(model, { tokens, newTokens, isDecided });
    }
    expect(numDecided, 'tokens that the margin decided').toBeGreaterThan(80);
  });
});
