import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, GenerateOptions } from '../../lib/engine/types';
import { loadSmollm2 } from '../parity/smollm2';
import { answer, createEngine } from './engine-under-test';
import { requantized } from './requantized';

const message = (content: string, overrides: Partial<GenerateOptions>): GenerateOptions => ({
  messages: [{ role: 'user', content }],
  maxTokens: 16,
  logprobs: 2,
  ...overrides,
});

const REQUESTS: readonly GenerateOptions[] = [
  message('Why is the sky blue?', { temperature: 0 }),
  message('Write a haiku about rain.', { temperature: 0.8, seed: 5 }),
  message('List ten fruits.', { temperature: 0.6, seed: 6, frequencyPenalty: 0.5, topP: 0.9 }),
  message('Count from one to thirty.', { temperature: 0, repetitionPenalty: 1.05 }),
];

let engine: Engine;
let folder: string;
/** The file of the model, or why it cannot be had here. */
let target: { readonly file: string } | string;

beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  folder = mkdtempSync(join(tmpdir(), 'autoglm-draft-'));
  const model = await loadSmollm2(engine, { contextLength: 256, weightCache: false });
  if (typeof model === 'string') {
    target = model;
    return;
  }
  target = { file: model.info.files[0] ?? '' };
  await model.close();
  writeFileSync(join(folder, 'draft.gguf'), requantized(target.file));
}, 300_000);
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await engine.close();
});

// Goal: on real text a poorer twin guesses many tokens right, greedily and at a temperature, and changes none. Method: ids
// and log-probabilities, bit for bit, of SmolLM2 (Q4_1) with and without its Q4_0 version as draft model.
describe('SmolLM2 with its Q4_0 version as draft model', () => {
  test('answers the same, and many guesses are right', { timeout: 300_000 }, async (context) => {
    if (typeof target === 'string') return context.skip(target);
    const model = await engine.loadModel({
      source: target.file,
      contextLength: 256,
      weightCache: false,
      speculation: {
        mode: 'draft-model',
        draftModel: join(folder, 'draft.gguf'),
        maxTokens: 2,
        adaptive: false,
      },
    });
    const expected = await Promise.all(
      REQUESTS.map((request) => answer(model, { ...request, speculation: 'off' })),
    );
    expect((await model.stats()).draftedTokens).toBe(0);
    for (const [i, request] of REQUESTS.entries()) expect(await answer(model, request)).toEqual(expected[i]);
    // Both models draw by the same random numbers; by numbers of their own few guesses would be right.
    const { draftedTokens, acceptedTokens } = await model.stats();
    expect(acceptedTokens).toBeGreaterThan(draftedTokens / 5);
    expect(await Promise.all(REQUESTS.map((request) => answer(model, request)))).toEqual(expected);
    await model.close();
  });
});
