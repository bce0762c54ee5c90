import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { TuningStats } from '../../lib/engine/stats-types';
import type { Model } from '../../lib/engine/types';
import { Fixture, withModel } from './engine-under-test';

// Whatever the times are, a size class is settled after 50 steps for each of at most five comparisons, and four more:
// one row's is after two answers of 250 tokens.
const ANSWER = { tokens: [5], ignoreEos: true, maxTokens: 250, seed: 3, logprobs: 0 } as const;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'autoglm-autotuning-'));
  process.env.OPEN_AUTOGLM_CACHE = join(folder, 'cache');
});
afterEach(() => {
  delete process.env.OPEN_AUTOGLM_CACHE;
  process.env.OPEN_AUTOGLM_AUTOTUNE = '0';
  rmSync(folder, { recursive: true, force: true });
});

const tuningFiles = (): string[] => {
  const tuning = join(folder, 'cache', 'tuning');
  return existsSync(tuning) ? readdirSync(tuning).map((name) => join(tuning, name)) : [];
};

async function tuningOf(engineStats: () => Promise<unknown>): Promise<TuningStats | null> {
  const { models } = (await engineStats()) as { models: Record<string, { tuning: TuningStats | null }> };
  return Object.values(models)[0]?.tuning ?? null;
}

/** Tokens and log-probabilities, bit for bit. */
async function answers(model: Model): Promise<string> {
  const texts: string[] = [];
  for (let i = 0; i < 2; i += 1) {
    const { tokens, logprobs } = await model.generate(ANSWER);
    texts.push(JSON.stringify([tokens, logprobs?.map(({ logprob }) => logprob)]));
  }
  return texts.join('\n');
}

const settle = (source: string): Promise<{ text: string; tuning: TuningStats | null }> =>
  withModel({ source, autotune: true }, async (model, engine) => {
    const text = await answers(model);
    return { text, tuning: await tuningOf(() => engine.stats()) };
  });

const plain = (source: string): Promise<string> =>
  withModel({ source, autotune: false }, (model) => answers(model));

describe('autotuning', () => {
  // Steps with every choice run in one answer, compared with an answer that has none.
  test.each([Fixture.float32, Fixture.q4])(
    'changes no bit of an answer while it tries: %s',
    async (source) => {
      const { text, tuning } = await settle(source);
      expect(tuning?.measuredSteps).toBeGreaterThan(20);
      expect(tuning?.choices).toEqual([expect.objectContaining({ maxPositions: 1 })]);
      expect(text).toBe(await plain(source));
    },
  );

  test('measures once: the next load has the choice from its first step on', async () => {
    const first = await settle(Fixture.q4);
    expect(tuningFiles()).toHaveLength(1);
    const again = await settle(Fixture.q4);
    expect(again.tuning).toEqual({ ...first.tuning, measuredSteps: 0 });
    expect(again.text).toBe(first.text);
    // Another model's choices are its own.
    expect((await settle(Fixture.float32)).tuning?.measuredSteps).toBeGreaterThan(0);
    expect(tuningFiles()).toHaveLength(2);
  });

  test('ignores a damaged file with a warning and replaces it', async () => {
    await settle(Fixture.q4);
    const [path = ''] = tuningFiles();
    const whole = readFileSync(path, 'utf8');
    writeFileSync(path, whole.slice(0, 40));
    await withModel({ source: Fixture.q4, autotune: true }, async (model, engine) => {
      expect(model.info.warnings).toContainEqual({
        code: 'tuning_ignored',
        message: expect.stringContaining(path),
      });
      await answers(model);
      expect((await tuningOf(() => engine.stats()))?.measuredSteps).toBeGreaterThan(0);
    });
    expect(Object.keys(JSON.parse(readFileSync(path, 'utf8')))).toEqual(Object.keys(JSON.parse(whole)));
  });

  test('works where nothing can be stored, and says so', async () => {
    writeFileSync(join(folder, 'cache'), 'a file where the folder should be');
    const { tuning } = await settle(Fixture.q4);
    expect(tuning?.choices).toHaveLength(1);
    expect(tuning?.storeFailure).toMatch(/ENOTDIR|EEXIST/);
  });

  test.each(['option', 'environment'])('measures and stores nothing when it is off by %s', async (way) => {
    process.env.OPEN_AUTOGLM_AUTOTUNE = way === 'environment' ? 'off' : '1';
    const options = way === 'option' ? { autotune: false } : {};
    await withModel({ source: Fixture.q4, ...options }, async (model, engine) => {
      await answers(model);
      expect(await tuningOf(() => engine.stats())).toBeNull();
    });
    expect(existsSync(join(folder, 'cache'))).toBe(false);
  });

  test('ends with the model, whatever it was trying', async () => {
    for (const numTokens of [1, 9, 40]) {
      await withModel({ source: Fixture.q4, autotune: true }, async (model) => {
        const running = model.generate(ANSWER);
        let numSeen = 0;
        for await (const event of running) {
          if ('tokens' in event) numSeen += event.tokens.length;
          if (numSeen >= numTokens) break;
        }
      });
    }
    for (const path of tuningFiles()) expect(path).toMatch(/\.json$/);
  });
});
