import { describe, expect, test } from 'vitest';
import { Finish, RequestKind } from '../../../lib/native/abi';
import { Driver, tokens } from './scheduler-driver';

/** Brings requests 0..n-1 with short prompts to their first token. */
function decoding(count: number, config: ConstructorParameters<typeof Driver>[0] = {}): Driver {
  const driver = new Driver(config);
  for (let n = 0; n < count; n += 1) driver.add(n, tokens(4, n + 1));
  driver.plan();
  driver.finish();
  return driver;
}

test('a prompt is computed in one step and sampled when the budget allows', () => {
  const driver = new Driver();
  driver.add(1, tokens(40));
  const plan = driver.plan();
  expect(plan?.admissions).toMatchObject([{ id: 1, row: 0, generation: 1 }]);
  expect([...(plan?.admissions[0]?.tokens ?? [])]).toEqual([...tokens(40)]);
  expect(plan?.entries).toMatchObject([{ id: 1, start: 0, count: 40, samples: true }]);
  expect(plan?.pageUpdates.map(({ index }) => index)).toEqual([0, 1, 2]);
});

test('a prompt longer than the budget is computed in chunks and sampled after the last', () => {
  const driver = new Driver({ maxStepTokens: 64 });
  driver.add(1, tokens(150));
  const chunks = [driver.planned().get(1), driver.planned().get(1)];
  driver.finish();
  chunks.push(driver.planned().get(1));
  expect(chunks).toMatchObject([
    { start: 0, count: 64, samples: false },
    { start: 64, count: 64, samples: false },
    { start: 128, count: 22, samples: true },
  ]);
});

test('a step holds no more positions than its budget', () => {
  const driver = new Driver({ maxStepTokens: 20 });
  for (let n = 0; n < 4; n += 1) driver.add(n, tokens(15, n + 1));
  const counts = [...driver.planned().values()].map(({ id, count }) => [id, count]);
  expect(counts).toEqual([
    [0, 15],
    [1, 5],
  ]);
});

test('every running decode comes before any prompt chunk', () => {
  const driver = decoding(3, { maxStepTokens: 16, maxChunkTokens: 16 });
  driver.add(9, tokens(100, 9));
  const entries = driver.plan()?.entries.map(({ id, count }) => [id, count]);
  expect(entries).toEqual([
    [0, 1],
    [1, 1],
    [2, 1],
    [9, 13],
  ]);
});

test('a chunk is capped while others decode, and not while nobody does', () => {
  const driver = decoding(1, { maxStepTokens: 64, maxChunkTokens: 8 });
  driver.add(9, tokens(100, 9));
  expect(driver.planned().get(9)?.count).toBe(8);
  driver.core.abort(0 as never);
  expect(driver.planned().get(9)?.count).toBe(64);
});

test('a decode is planned before the result of the step before it has come', () => {
  const driver = new Driver();
  driver.add(1, tokens(10));
  driver.plan();
  expect(driver.planned().get(1)).toMatchObject({ start: 10, count: 1, samples: true });
  expect(driver.plan(), 'two steps are in flight').toBeNull();
});

describe('steps of 5 ms', () => {
  /** Two requests that decode, their steps measured; what may be planned is. */
  function measured(): Driver {
    const driver = decoding(2);
    for (let step = 0; step < 3; step += 1) {
      driver.plan();
      driver.core.now += 5;
      driver.finish();
    }
    while (driver.plan() !== null);
    return driver;
  }

  test('are planned as far ahead as 16 ms allow', () => {
    expect(measured().outstanding).toHaveLength(3);
  });

  test('leave room for whoever arrives', () => {
    const driver = measured();
    driver.add(9, tokens(4, 9));
    driver.finish();
    expect(driver.plan(), 'two decodes are outstanding').toBeNull();
    driver.finish();
    expect(driver.planned().get(9)).toMatchObject({ count: 4 });
    expect(driver.plan(), 'a prompt is outstanding').toBeNull();
  });
});

test('a request certain to reach its last token is not planned again', () => {
  const driver = new Driver();
  driver.add(1, tokens(10), { maxTokens: 2 });
  driver.plan();
  driver.plan();
  driver.finish();
  expect(driver.plan()).toBeNull();
  driver.finish();
  expect(driver.last(1)).toEqual({ type: 'finished', id: 1, reason: 'length' });
});

test('the row of a finished request is given out again under a new generation', () => {
  const driver = new Driver({ maxRows: 1 });
  driver.add(1, tokens(4), { maxTokens: 1 });
  driver.add(2, tokens(4, 2), { maxTokens: 1 });
  driver.plan();
  driver.finish();
  expect(driver.plan()?.admissions).toMatchObject([{ id: 2, row: 0, generation: 2 }]);
});

test('a result that comes after its request has stopped is dropped', () => {
  const driver = new Driver();
  driver.add(1, tokens(10));
  driver.plan();
  driver.plan();
  driver.finish(() => ({ finish: Finish.stop, token: 5 }));
  expect(driver.last(1)).toEqual({ type: 'finished', id: 1, reason: 'stop' });
  expect(driver.finish(() => ({ finish: Finish.skipped, token: -1 }))).toEqual([]);
  expect(driver.core.stats()).toMatchObject({ numRunning: 0, numFreePages: 64 });
});

test('events of a generation come in order and each token names its result row', () => {
  const driver = new Driver();
  driver.add(1, tokens(4, 1), { maxTokens: 2 });
  driver.add(2, tokens(4, 2), { maxTokens: 1 });
  driver.drain();
  expect(driver.eventsOf(1)).toEqual([
    { type: 'started', id: 1, cachedTokens: 0 },
    { type: 'prefilled', id: 1 },
    { type: 'token', id: 1, token: 7, resultRow: 0 },
    { type: 'token', id: 1, token: 7, resultRow: 0 },
    { type: 'finished', id: 1, reason: 'length' },
  ]);
  expect(driver.eventsOf(2)).toContainEqual({ type: 'token', id: 2, token: 7, resultRow: 1 });
});

test('a generation that fills the context ends with length', () => {
  const driver = new Driver({ contextLength: 20 });
  driver.add(1, tokens(18), { maxTokens: 100 });
  driver.drain();
  expect(driver.eventsOf(1).filter(({ type }) => type === 'token')).toHaveLength(2);
  expect(driver.last(1)).toMatchObject({ type: 'finished', reason: 'length' });
});

test.each([RequestKind.logits, RequestKind.score])(
  'an evaluation of kind %i samples nothing and ends with its prompt',
  (kind) => {
    const driver = new Driver({ maxStepTokens: 16 });
    driver.add(1, tokens(20), { kind, maxTokens: 0 });
    driver.drain();
    expect(driver.eventsOf(1).map(({ type }) => type)).toEqual(['started', 'prefilled', 'finished']);
    expect(driver.last(1)).toMatchObject({ reason: 'evaluated' });
  },
);

test('an entry without a finite number ends its request and no other', () => {
  const driver = decoding(2);
  driver.plan();
  driver.finish(({ id }) => (id === 0 ? { finish: Finish.numericError, token: -1 } : {}));
  expect(driver.last(0)).toMatchObject({ type: 'failed', code: 'numeric_error' });
  expect(driver.last(1)).toMatchObject({ type: 'token' });
});

test('a live request that the engine skipped fails instead of losing a token', () => {
  const driver = decoding(1);
  driver.plan();
  driver.finish(() => ({ finish: Finish.skipped, token: -1 }));
  expect(driver.last(0)).toMatchObject({ type: 'failed', code: 'engine_failed' });
});

test('a failed step ends the requests in it and spares the others', () => {
  const driver = decoding(1);
  driver.core.pause(0 as never);
  driver.add(9, tokens(8, 9));
  const step = driver.plan()?.step ?? 0;
  driver.outstanding.shift();
  driver.core.applyFailure(step, 'the device went away');
  driver.core.resume(0 as never);
  driver.drain();
  expect(driver.last(9)).toEqual({
    type: 'failed',
    id: 9,
    code: 'engine_failed',
    message: 'the device went away',
  });
  expect(driver.last(0)).toMatchObject({ type: 'finished' });
});

test('results out of order and results that name another row are refused', () => {
  const driver = new Driver();
  driver.add(1, tokens(4));
  const plan = driver.plan();
  const entry = { row: 0, generation: 1, token: 7, further: [], finish: Finish.none };
  expect(() => driver.core.apply({ step: 2, entries: [entry] })).toThrow(/step 1 is the oldest/);
  expect(plan?.step).toBe(1);
  const wrong = { ...entry, generation: 9 };
  expect(() => driver.core.apply({ step: 1, entries: [wrong] })).toThrow(/generation 9/);
});

describe('inputs that are not split', () => {
  const pool = { kind: RequestKind.pool, maxTokens: 0 };
  const config = { splitsInputs: false, contextLength: 60, maxStepTokens: 64 };

  test('each is computed in one step, as many as fit, in the order of the queue', () => {
    const driver = new Driver(config);
    for (const [n, length] of [40, 20, 30, 4].entries()) driver.add(n, tokens(length, n), pool);
    const steps: [number, number, number][][] = [];
    for (let plan = driver.plan(); plan !== null; plan = driver.plan()) {
      steps.push(plan.entries.map(({ id, start, count }) => [id, start, count]));
      driver.finish();
    }
    expect(steps).toEqual([
      [
        [0, 0, 40],
        [1, 0, 20],
      ],
      [
        [2, 0, 30],
        [3, 0, 4],
      ],
    ]);
    for (const n of [0, 1, 2, 3])
      expect(driver.last(n)).toEqual({ type: 'finished', id: n, reason: 'evaluated' });
  });

  test('a step limit below the context is refused, since the longest input would never fit', () => {
    expect(() => new Driver({ ...config, maxStepTokens: 59 })).toThrow(/maxStepTokens to be at least 60/);
  });

  test('an input longer than the context is refused with both counts', () => {
    const driver = new Driver(config);
    expect(() => driver.add(1, tokens(61), pool)).toThrow(/at most 60 prompt tokens .* got 61/);
  });
});
