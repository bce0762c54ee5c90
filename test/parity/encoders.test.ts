import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type Model } from '../../dist/index.js';

const fixtures = join(__dirname, '..', 'fixtures', 'encoders');

interface LogitsReference {
  readonly tokens: readonly number[];
  readonly logits: readonly number[];
}
interface ModelReference {
  /** By the name of the prompt. */
  readonly embeddings?: Readonly<Record<string, readonly (readonly number[])[]>>;
  readonly texts?: readonly (LogitsReference | null)[];
  readonly pairs?: readonly (LogitsReference | null)[];
}
interface References {
  readonly texts: readonly string[];
  readonly pairs: readonly (readonly [string, string])[];
  readonly models: Readonly<Record<string, ModelReference>>;
}

/** What transformers and sentence-transformers computed, written by make_encoder_fixtures.py. */
const references = JSON.parse(readFileSync(join(fixtures, 'references.json'), 'utf8')) as References;

/** The bounds of the project for encoders in `exact`: float32 against float32 of another library. */
const MIN_COSINE = 0.99999;
const MAX_LOGIT_ERROR = 1e-4;

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < b.length; i += 1) {
    const [x, y] = [a[i] as number, b[i] as number];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return dot / Math.sqrt(aa * bb);
}

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.close());

const pathOf = (name: string): string =>
  join(fixtures, 'models', name.endsWith('gguf') ? `${name}.gguf` : name);

// Goal: from text to numbers, everything is as the reference has it: tokens, types, positions, layers, pooling, heads.
describe.each(Object.entries(references.models))('%s', (name, reference) => {
  let model: Model;
  beforeAll(async () => {
    model = await engine.loadModel({ source: pathOf(name), precision: 'exact' });
  });
  afterAll(() => model.close());

  test.runIf(reference.embeddings !== undefined)('embeddings point where the reference’s do', async () => {
    for (const [prompt, expected] of Object.entries(reference.embeddings ?? {})) {
      const options = prompt === '' ? {} : { prompt };
      const { embeddings } = await model.embed(references.texts, options);
      for (const [i, vector] of expected.entries()) {
        const found = embeddings[i] as Float32Array;
        expect(found).toHaveLength(vector.length);
        expect(cosine(found, vector), `text ${i}, prompt "${prompt}"`).toBeGreaterThanOrEqual(MIN_COSINE);
        const length = Math.hypot(...found);
        expect(Math.abs(length - 1), `length of text ${i}`).toBeLessThan(1e-6);
      }
    }
  });

  const headed = (['texts', 'pairs'] as const).filter((kind) => reference[kind] !== undefined);
  test.each(headed)('logits of %s equal the reference’s', async (kind) => {
    const expected = reference[kind] ?? [];
    const kept = expected.flatMap((entry, i) => (entry === null ? [] : [{ entry, i }]));
    const inputs = kept.map(({ i }) => references[kind][i] as string | readonly [string, string]);
    const { results, usage } = await model.classify(inputs, { raw: true });
    expect(usage.promptTokens).toBe(kept.reduce((sum, { entry }) => sum + entry.tokens.length, 0));
    for (const [at, { entry, i }] of kept.entries()) {
      for (const [label, logit] of entry.logits.entries()) {
        const found =
          results[at]?.find((each) => each.label === model.info.labels[label])?.score ?? Number.NaN;
        const error = Math.abs(found - logit);
        expect(error, `${kind} ${i}, label ${label}: ${found}, expected ${logit}`).toBeLessThanOrEqual(
          MAX_LOGIT_ERROR,
        );
      }
    }
  });

  test.runIf(name.includes('rerank'))(
    'documents are scored by the sigmoid of the reference’s logits',
    async () => {
      for (const [i, [query, document]] of references.pairs.entries()) {
        const logit = reference.pairs?.[i]?.logits[0] as number;
        const { results } = await model.rerank(query, [document]);
        expect(results[0]?.score).toBeCloseTo(1 / (1 + Math.exp(-logit)), 4);
      }
    },
  );
});
