import { describe, expect, test } from 'vitest';
import { RequestKind } from '../../../lib/native/abi';
import { Driver, id, tokens } from './scheduler-driver';

describe('intake', () => {
  test.each([
    [19, null],
    [20, 'context_length_exceeded'],
  ])('a prompt of %i tokens in a context of 20 gives %s', (length, code) => {
    const driver = new Driver({ contextLength: 20 });
    const add = (): void => driver.add(1, tokens(length));
    if (code === null) expect(add).not.toThrow();
    else
      expect(add).toThrow(
        expect.objectContaining({ code, details: { promptTokens: 20, contextLength: 20 } }),
      );
  });

  test('an evaluation may fill the context', () => {
    const driver = new Driver({ contextLength: 20 });
    driver.add(1, tokens(20), { kind: RequestKind.score, maxTokens: 0 });
    driver.drain();
    expect(driver.last(1)).toMatchObject({ type: 'finished' });
  });

  test.each([
    [33, null],
    [34, 'kv_exhausted'],
  ])('16 prompt tokens and %i output tokens in three pages give %s', (maxTokens, code) => {
    const driver = new Driver({ numPages: 3, contextLength: 200 });
    const add = (): void => driver.add(1, tokens(16), { maxTokens });
    if (code === null) expect(add).not.toThrow();
    else expect(add).toThrow(expect.objectContaining({ code, retryable: false }));
  });

  test('an empty prompt, no output and a known id are refused', () => {
    const driver = new Driver();
    expect(() => driver.add(1, tokens(0))).toThrow(expect.objectContaining({ code: 'invalid_parameter' }));
    expect(() => driver.add(1, tokens(4), { maxTokens: 0 })).toThrow(
      expect.objectContaining({ code: 'invalid_parameter' }),
    );
    driver.add(1, tokens(4));
    expect(() => driver.add(1, tokens(4))).toThrow(expect.objectContaining({ code: 'internal' }));
    expect(driver.core.stats().numWaiting).toBe(1);
  });

  test('the queue takes what free rows will take and its bound on top, then says when to come back', () => {
    const driver = new Driver({ maxRows: 2, maxQueuedRequests: 3 });
    for (let n = 0; n < 5; n += 1) driver.add(n, tokens(8, n));
    const details = expect.objectContaining({
      numQueuedRequests: 5,
      maxQueuedRequests: 3,
      retryAfterMs: 1_000,
    });
    expect(() => driver.add(5, tokens(8))).toThrow(
      expect.objectContaining({ code: 'queue_full', retryable: true, details }),
    );
    driver.plan();
    expect(() => driver.add(5, tokens(8))).toThrow(expect.objectContaining({ code: 'queue_full' }));
    driver.finish();
    driver.core.abort(id(4));
    expect(() => driver.add(5, tokens(8))).not.toThrow();
  });

  test('queued tokens are bounded, but a long prompt alone is accepted', () => {
    const driver = new Driver({ maxQueuedTokens: 50 });
    driver.add(1, tokens(80));
    expect(() => driver.add(2, tokens(1))).toThrow(expect.objectContaining({ code: 'queue_full' }));
    driver.plan();
    driver.add(2, tokens(30, 2));
    driver.add(3, tokens(20, 3));
    expect(() => driver.add(4, tokens(1))).toThrow(expect.objectContaining({ code: 'queue_full' }));
  });

  test('settings with which an accepted request could never run are refused', () => {
    expect(() => new Driver({ maxPlanWords: 100 })).toThrow(/maxPlanWords to be at least/);
    expect(() => new Driver({ maxRows: 0 })).toThrow(/maxRows to be at least 1, got 0/);
  });
});

describe('the order of the queue', () => {
  const admitted = (driver: Driver): number[] =>
    driver.events.flatMap((event) => (event.type === 'started' ? [event.id] : []));

  test('higher priority first, then first come first served', () => {
    const driver = new Driver({ maxRows: 1 });
    [0, 2, 1, 2].forEach((priority, n) => {
      driver.add(n, tokens(4, n), { priority, maxTokens: 1 });
    });
    driver.drain();
    expect(admitted(driver)).toEqual([1, 3, 2, 0]);
  });

  test.each([
    [2_999, [1, 0]],
    [3_001, [0, 1]],
  ])('after %i ms a request has aged past or not past three priority levels of 1,000 ms', (wait, order) => {
    const driver = new Driver({ maxRows: 1, agingMs: 1_000 });
    driver.add(0, tokens(4), { maxTokens: 1 });
    driver.core.now = wait;
    driver.add(1, tokens(4, 1), { priority: 3, maxTokens: 1 });
    driver.drain();
    expect(admitted(driver)).toEqual(order);
  });

  test('a small request does not slip past a large one that has to wait for pages', () => {
    const driver = new Driver({ numPages: 4, contextLength: 64 });
    driver.add(0, tokens(30), { maxTokens: 10 });
    driver.plan();
    driver.add(1, tokens(40, 1), { maxTokens: 1 });
    driver.add(2, tokens(4, 2), { maxTokens: 1 });
    driver.drain();
    expect(admitted(driver)).toEqual([0, 1, 2]);
  });

  test('a history that does not fit the plan any more waits for the next step', () => {
    // Room for 60 tokens, twice that would need 170 words of admissions alone.
    const driver = new Driver({ contextLength: 64, maxRows: 2, maxPlanWords: 148 });
    for (let n = 0; n < 3; n += 1) driver.add(n, tokens(60, n), { kind: RequestKind.logits, maxTokens: 0 });
    const numAdmitted: number[] = [];
    for (let plan = driver.plan(); plan !== null; plan = driver.plan()) {
      numAdmitted.push(plan.admissions.length);
      driver.finish();
    }
    expect(numAdmitted).toEqual([1, 1, 1]);
  });
});

describe('abort', () => {
  const states = {
    queued: () => {},
    'in flight for the first time': (driver: Driver) => {
      driver.plan();
    },
    'prefilled in part': (driver: Driver) => {
      driver.plan();
      driver.finish();
    },
    'two steps ahead': (driver: Driver) => {
      driver.plan();
      driver.plan();
    },
    decoding: (driver: Driver) => {
      for (let step = 0; step < 5; step += 1) {
        driver.plan();
        driver.finish();
      }
      driver.plan();
    },
    paused: (driver: Driver) => {
      driver.plan();
      driver.core.pause(id(1));
    },
  } as const;

  test.each(Object.entries(states))(
    'of a request that is %s takes effect at once and loses no page',
    (_, prepare) => {
      const driver = new Driver({ maxStepTokens: 64 });
      driver.add(1, tokens(100));
      prepare(driver);
      driver.core.abort(id(1));
      driver.core.abort(id(1));
      expect(driver.core.takeEvents()).toEqual([{ type: 'aborted', id: 1 }]);
      expect(driver.core.stats()).toMatchObject({ numRunning: 0, numWaiting: 0 });
      driver.drain();
      const { numFreePages, numCachedPages } = driver.core.stats();
      expect(numFreePages + numCachedPages).toBe(64);
      expect(driver.last(1)?.type).not.toBe('finished');
    },
  );

  test('of a preempted request with a step in flight loses no page', () => {
    const driver = new Driver({ maxRows: 1 });
    driver.add(1, tokens(8, 1));
    driver.plan();
    driver.core.pause(id(1));
    driver.add(2, tokens(8, 2), { maxTokens: 1 });
    driver.plan();
    expect(driver.last(1)).toMatchObject({ type: 'preempted' });
    driver.core.abort(id(1));
    driver.drain();
    expect(driver.core.stats()).toMatchObject({ numFreePages: 64, numRunning: 0, numWaiting: 0 });
  });

  test('of an unknown request is ignored', () => {
    const driver = new Driver();
    driver.core.abort(id(99));
    expect(driver.core.takeEvents()).toEqual([]);
  });

  test('pages are not given to others before the last step that may write them', () => {
    const driver = new Driver({ numPages: 4, contextLength: 64 });
    driver.add(1, tokens(60));
    driver.plan();
    driver.core.abort(id(1));
    driver.add(2, tokens(60, 2));
    expect(driver.plan(), 'the pages wait for their fence').toBeNull();
    driver.finish();
    expect(driver.planned().get(2)).toMatchObject({ start: 0, count: 60 });
  });
});

describe('deadlines', () => {
  test('a waiting request whose deadline has passed fails without being computed', () => {
    const driver = new Driver();
    driver.add(1, tokens(4), { deadline: 100 });
    expect(driver.core.nextWakeup()).toBe(100);
    driver.core.now = 100;
    expect(driver.plan()).toBeNull();
    expect(driver.last(1)).toMatchObject({ type: 'failed', code: 'deadline_exceeded' });
    expect(driver.core.nextWakeup()).toBeNull();
  });

  test('with two steps in flight a deadline is seen all the same', () => {
    const driver = new Driver();
    driver.add(1, tokens(4), { deadline: 100 });
    driver.plan();
    driver.plan();
    expect(driver.core.nextWakeup()).toBe(100);
    driver.core.now = 100;
    expect(driver.plan()).toBeNull();
    expect(driver.last(1)).toMatchObject({ type: 'failed', code: 'deadline_exceeded' });
    expect(driver.core.nextWakeup()).toBeNull();
  });

  test('a running request fails in the step after its deadline and keeps the tokens it got', () => {
    const driver = new Driver();
    driver.add(1, tokens(4), { deadline: 100 });
    driver.add(2, tokens(4, 2), { deadline: 300 });
    driver.plan();
    driver.finish();
    driver.core.now = 99;
    expect(driver.planned().has(1)).toBe(true);
    driver.finish();
    driver.core.now = 100;
    expect([...driver.planned().keys()]).toEqual([2]);
    expect(driver.last(1)).toMatchObject({ message: 'the deadline passed after 2 of 64 output tokens' });
    expect(driver.core.nextWakeup()).toBe(300);
  });
});

describe('pause', () => {
  test('a paused request keeps its place and is not planned until it resumes', () => {
    const driver = new Driver();
    driver.add(1, tokens(4), { maxTokens: 4 });
    driver.plan();
    driver.finish();
    driver.core.pause(id(1));
    expect(driver.plan()).toBeNull();
    expect(driver.core.stats().numRunning).toBe(1);
    driver.core.resume(id(1));
    expect(driver.planned().get(1)).toMatchObject({ start: 4, count: 1 });
  });

  test('a request paused in the queue is passed over', () => {
    const driver = new Driver({ maxRows: 1 });
    driver.add(1, tokens(4), { maxTokens: 1 });
    driver.add(2, tokens(4, 2), { maxTokens: 1 });
    driver.core.pause(id(1));
    expect([...driver.planned().keys()]).toEqual([2]);
    driver.finish();
    expect(driver.plan()).toBeNull();
    driver.core.resume(id(1));
    expect([...driver.planned().keys()]).toEqual([1]);
  });
});
