import { expect, test } from 'vitest';
import { Driver, type id, tokens } from './scheduler-driver';

const CONFIG = { numPages: 256, maxStepTokens: 512, maxChunkTokens: 512, contextLength: 2048 };

/**
 * Request 0 decodes: its prompt of 100 tokens took `promptMs`, then three steps of decodes took `decodeMs` each. Requests
 * 1, 2 and 3 have just arrived with 400 tokens each.
 */
function crowd({ promptMs, decodeMs }: { promptMs: number; decodeMs: number }): Driver {
  const driver = new Driver(CONFIG);
  driver.add(0, tokens(100), { maxTokens: 100 });
  for (const elapsed of [promptMs, decodeMs, decodeMs, decodeMs]) step(driver, elapsed);
  for (const n of [1, 2, 3]) driver.add(n, tokens(400, n));
  return driver;
}

/** Plans and finishes one step; returns the positions by request. */
function step(driver: Driver, elapsed: number): number[][] {
  const entries = [...driver.planned().values()].map(({ id, count }) => [id, count]);
  driver.core.now += elapsed;
  driver.finish();
  return entries;
}

test('beside a decode, all prompts together get what 40 ms allow', () => {
  const driver = crowd({ promptMs: 10, decodeMs: 5 });
  expect(step(driver, 40)).toEqual([
    [0, 1],
    [1, 399],
  ]);
});

test('prompts get four times the time of decodes where that is more', () => {
  const driver = crowd({ promptMs: 100, decodeMs: 60 });
  expect(step(driver, 240)).toEqual([
    [0, 1],
    [1, 239],
  ]);
});

test('prompts are computed slowly rather than never', () => {
  const driver = crowd({ promptMs: 5_000, decodeMs: 5 });
  const counts = [step(driver, 1_650), step(driver, 1_650)];
  expect(counts).toEqual([
    [
      [0, 1],
      [1, 32],
    ],
    [
      [0, 1],
      [1, 32],
    ],
  ]);
});

test('a step that was interrupted slows prompts down by a fifth, and no more', () => {
  const driver = crowd({ promptMs: 50, decodeMs: 5 });
  expect(step(driver, 60_000)).toEqual([
    [0, 1],
    [1, 79],
  ]);
  expect(step(driver, 40)).toEqual([
    [0, 1],
    [1, 65],
  ]);
});

test('prompts have the whole step when nobody decodes', () => {
  const driver = crowd({ promptMs: 100, decodeMs: 5 });
  driver.core.abort(0 as ReturnType<typeof id>);
  expect(step(driver, 500)).toEqual([
    [1, 400],
    [2, 112],
  ]);
});
