import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AutoglmError, createEngine, type Engine, type Model } from '../../dist/index.js';

interface Reference {
  readonly entries: readonly { readonly text: string; readonly embedding: string }[];
}

/** What sentence-transformers computed, written by test/fixtures/encoders/make_minilm_reference.py. */
const { entries } = JSON.parse(
  readFileSync(join(__dirname, '..', 'fixtures', 'encoders', 'minilm-reference.json'), 'utf8'),
) as Reference;

/** What is loaded: the short name, or a folder that MINILM_FOLDER names. */
const SOURCE = process.env.MINILM_FOLDER ?? 'all-minilm-l6-v2';
const UNREACHABLE: readonly string[] = ['model_not_found', 'download_failed', 'offline'];
/** Texts that the reference cuts at 256 tokens. */
const LONG = [entries.length - 1];

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.close());

// Goal: a published encoder gives what its own library gives, from names of files to unit vectors.
// The bounds are the project's: exact is float32 throughout; fast keeps keys and values in bf16.
describe.each([
  ['exact', 0.99999],
  ['fast', 0.999],
] as const)('MiniLM, %s', (precision, minCosine) => {
  let model: Model | null = null;
  let reason = '';
  beforeAll(async () => {
    try {
      model = await engine.loadModel({ source: SOURCE, precision });
    } catch (error) {
      const isUnreachable = AutoglmError.is(error) && UNREACHABLE.includes(error.code);
      if (process.env.CI !== undefined || !isUnreachable) throw error;
      reason = error.message;
    }
  });
  afterAll(() => model?.close());

  test(`every embedding has a cosine of at least ${minCosine} with sentence-transformers’`, async (context) => {
    if (model === null) return context.skip(`no model: ${reason}`);
    const texts = entries.map(({ text }) => text);
    const { embeddings, truncated } = await model.embed(texts, { truncate: true });
    expect(truncated).toEqual(LONG);
    for (const [i, { embedding }] of entries.entries()) {
      const bytes = Buffer.from(embedding, 'base64');
      const found = embeddings[i] as Float32Array;
      let dot = 0;
      for (let at = 0; at < 384; at += 1) dot += (found[at] as number) * bytes.readFloatLE(4 * at);
      expect(dot, `text ${i}`).toBeGreaterThanOrEqual(minCosine);
    }
  });

  test('a text over the model’s length is refused with both counts', async (context) => {
    if (model === null) return context.skip(`no model: ${reason}`);
    await expect(model.embed('word '.repeat(300))).rejects.toMatchObject({
      code: 'context_length_exceeded',
      details: { promptTokens: 302, contextLength: 256 },
    });
  });
});
