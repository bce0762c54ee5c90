import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, Model } from '../../lib/engine/types';
import { Limits } from '../../lib/native/abi';
import {
  createEngine,
  endless,
  expectDrained,
  randomTokens,
  seededRandom,
  stretchedFixture,
} from './engine-under-test';

const MAX_UNREAD = 1024;
/** Steps that may be outstanding when a request is paused, and those told with the one that used up its credit. */
const RUN_AHEAD = Limits.queueDepth + (Limits.queueDepth - 2);
const prompt = randomTokens(20, seededRandom(1));

let folder = '';
let engine: Engine;
let model: Model;
beforeAll(async () => {
  folder = stretchedFixture();
  engine = await createEngine({ threads: 2 });
  model = await engine.loadModel(folder);
});
afterAll(async () => {
  await engine.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Tokens made since `before`, once no more are made. */
async function settledCount(before: number): Promise<number> {
  let last = -1;
  for (let same = 0; same < 10; ) {
    const { generatedTokens } = await model.stats();
    same = generatedTokens === last ? same + 1 : 0;
    last = generatedTokens;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return last - before;
}

describe('a stream that nobody reads', () => {
  test('is paused at 1,024 tokens, goes on where it is read, and loses nothing', async () => {
    const before = (await model.stats()).generatedTokens;
    const run = model.generate(endless(prompt, { maxTokens: 2500 }));
    const reader = run[Symbol.asyncIterator]();
    const made = await settledCount(before);
    expect(made).toBeGreaterThanOrEqual(MAX_UNREAD);
    expect(made).toBeLessThanOrEqual(MAX_UNREAD + RUN_AHEAD);
    expect(await model.stats()).toMatchObject({ numRunning: 1 });

    const { value } = await reader.next();
    expect(value).toMatchObject({ type: 'text', tokens: { length: made } });
    expect(await settledCount(before)).toBeLessThanOrEqual(made + MAX_UNREAD + RUN_AHEAD);

    const tokens = value?.type === 'text' ? [...value.tokens] : [];
    for (let next = await reader.next(); !next.done; next = await reader.next()) {
      if (next.value.type === 'text') tokens.push(...next.value.tokens);
    }
    const unhindered = await model.generate(endless(prompt, { maxTokens: 2500 }));
    expect(tokens).toEqual(unhindered.tokens);
    await expectDrained(model);
  });

  test('holds nobody else', async () => {
    const stalled = model.generate(endless(prompt, { maxTokens: 3000 }));
    await settledCount(0);
    const others = await Promise.all(
      Array.from({ length: 4 }, (_, seed) => model.generate(endless(prompt, { maxTokens: 200, seed }))),
    );
    for (const { tokens } of others) expect(tokens).toHaveLength(200);
    stalled.abort();
    await expect(stalled).rejects.toMatchObject({ code: 'aborted' });
    await expectDrained(model);
  });

  test('goes on as soon as its result is awaited, also when a reader stands still', async () => {
    const before = (await model.stats()).generatedTokens;
    const run = model.generate(endless(prompt, { maxTokens: 2000 }));
    await run[Symbol.asyncIterator]().next();
    expect(await settledCount(before)).toBeLessThan(2000);
    expect((await run).tokens).toHaveLength(2000);
  });

  test('meets its deadline although no step runs', async () => {
    const run = model.generate(endless(prompt, { maxTokens: 3000, timeout: 3000 }));
    const reader = run[Symbol.asyncIterator]();
    await settledCount(0);
    expect(await model.stats()).toMatchObject({ numRunning: 1 });
    await expectDrained(model);
    expect((await reader.next()).value).toMatchObject({ type: 'text' });
    await expect(reader.next()).rejects.toMatchObject({ code: 'deadline_exceeded' });
  });

  test('is bounded even while the main thread is blocked', async () => {
    const before = (await model.stats()).generatedTokens;
    const run = model.generate(endless(prompt, { maxTokens: 3000 }));
    const reader = run[Symbol.asyncIterator]();
    await reader.next();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
    const made = (await model.stats()).generatedTokens - before;
    expect(made).toBeGreaterThan(100);
    expect(made).toBeLessThanOrEqual(MAX_UNREAD + 16 + RUN_AHEAD);
    expect((await run).tokens).toHaveLength(3000);
  });
});
