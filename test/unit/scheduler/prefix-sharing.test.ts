import { expect, test } from 'vitest';
import { RequestKind } from '../../../lib/native/abi';
import { Driver, id, tokens } from './scheduler-driver';

/** A driver in which request 1 has computed `length` prompt tokens and ended. */
function warmed(length: number, config: ConstructorParameters<typeof Driver>[0] = {}): Driver {
  const driver = new Driver(config);
  driver.add(1, tokens(length), { maxTokens: 1, salt: 'a' });
  driver.drain();
  return driver;
}

const cachedTokens = (driver: Driver, n: number): unknown =>
  driver.eventsOf(n).find(({ type }) => type === 'started');

test('full pages of an earlier prompt are not computed again', () => {
  const driver = warmed(40);
  driver.add(2, tokens(48), { salt: 'a' });
  const plan = driver.plan();
  expect(plan?.entries).toMatchObject([{ start: 32, count: 16, samples: true }]);
  expect(plan?.pageUpdates.map(({ index }) => index)).toEqual([0, 1, 2]);
  expect(cachedTokens(driver, 2)).toMatchObject({ cachedTokens: 32 });
  expect(driver.core.stats()).toMatchObject({ prefixQueryTokens: 88, prefixHitTokens: 32 });
});

test('at least one token of a prompt is computed, also when all of it is cached', () => {
  const driver = warmed(32);
  driver.add(2, tokens(32), { salt: 'a' });
  expect(driver.planned().get(2)).toMatchObject({ start: 16, count: 16 });
});

test('another salt finds nothing', () => {
  const driver = warmed(40);
  driver.add(2, tokens(48), { salt: 'b' });
  expect(driver.planned().get(2)).toMatchObject({ start: 0, count: 48 });
});

test('evaluations neither use nor fill the cache', () => {
  const driver = warmed(40);
  driver.add(2, tokens(40), { kind: RequestKind.logits, maxTokens: 0, salt: 'a' });
  expect(driver.planned().get(2)?.start).toBe(0);
  driver.finish();
  driver.add(3, tokens(40, 3), { kind: RequestKind.score, maxTokens: 0 });
  driver.drain();
  driver.add(4, tokens(40, 3));
  expect(driver.planned().get(4)?.start).toBe(0);
});

test('nothing is shared when the prefix cache is off', () => {
  const driver = warmed(40, { prefixCache: false });
  expect(driver.core.stats()).toMatchObject({ numFreePages: 64, numCachedPages: 0 });
  driver.add(2, tokens(48), { salt: 'a' });
  expect(driver.planned().get(2)?.start).toBe(0);
});

test('pages of the output are shared as those of a prompt', () => {
  const driver = new Driver();
  driver.add(1, tokens(30), { maxTokens: 20 });
  driver.drain();
  const followUp = Int32Array.from([...tokens(30), ...new Array<number>(19).fill(7), 1, 2]);
  driver.add(2, followUp);
  expect(driver.planned().get(2)?.start).toBe(48);
});

test('a page is shared only when the step that fills it has been applied', () => {
  const driver = new Driver({ maxStepTokens: 100 });
  driver.add(1, tokens(20));
  driver.plan();
  driver.add(2, tokens(20));
  expect(driver.planned().has(2), 'request 2 waits for the page in the making').toBe(false);
  driver.finish();
  expect(driver.planned().get(2)).toMatchObject({ start: 16, count: 4 });
});

test('a burst of equal prompts is computed once', () => {
  const driver = new Driver({ maxStepTokens: 256, maxChunkTokens: 256 });
  for (let n = 1; n <= 8; n += 1) driver.add(n, tokens(100));
  driver.drain();
  const computed = driver.core.stats().prefixQueryTokens - driver.core.stats().prefixHitTokens;
  expect(computed).toBe(100 + 7 * 4);
});

test('a prompt does not wait for a page whose computation rests', () => {
  const driver = new Driver({ maxStepTokens: 24 });
  driver.add(1, tokens(60));
  driver.plan();
  driver.core.pause(id(1));
  driver.finish();
  driver.add(2, tokens(60));
  expect(driver.planned().get(2)).toMatchObject({ start: 16 });
});

test('pages come back tail first, so the head of a prompt is evicted last', () => {
  const driver = warmed(48, { numPages: 4, contextLength: 64 });
  driver.add(2, tokens(20, 9), { maxTokens: 1 });
  driver.drain();
  driver.add(3, tokens(60), { maxTokens: 1, salt: 'a' });
  expect(driver.planned().get(3)?.start).toBe(32);
});

test('a page is evicted only when its place is needed', () => {
  const driver = warmed(48, { numPages: 4, contextLength: 64 });
  expect(driver.core.stats()).toMatchObject({ numFreePages: 1, numCachedPages: 3 });
  driver.add(2, tokens(60, 9), { maxTokens: 1 });
  driver.drain();
  driver.add(3, tokens(48), { maxTokens: 1, salt: 'a' });
  expect(driver.planned().get(3)?.start).toBe(0);
});
