import { expect, test } from 'vitest';
import { takeIn } from '../../../lib/scheduler/intake';
import { SchedulerState } from '../../../lib/scheduler/scheduler-state';
import { StepDraft } from '../../../lib/scheduler/step-draft';
import { planStep } from '../../../lib/scheduler/step-planner';
import { CONFIG, Driver, id, REQUEST, tokens } from './scheduler-driver';

const preemptions = (driver: Driver): number[] =>
  driver.events.filter(({ type }) => type === 'preempted').map((event) => event.id);

/** Advances one step at a time, nothing ahead, until `done`. */
function stepUntil(driver: Driver, done: () => boolean): void {
  for (let step = 0; step < 1_000; step += 1) {
    if (done()) return;
    driver.plan();
    driver.finish();
  }
  throw new Error('it never happens');
}

test('the latest request gives way when pages run out, resumes, and its caller gets every token once', () => {
  const driver = new Driver({ numPages: 6, contextLength: 96, prefixCache: false });
  driver.add(1, tokens(16, 1), { maxTokens: 70 });
  driver.add(2, tokens(16, 2), { maxTokens: 70 });
  // Each token says its position, so a lost or repeated one shows.
  driver.drain(({ start, count, samples }) => (samples ? { token: start + count } : {}));
  expect(new Set(preemptions(driver))).toEqual(new Set([2]));
  for (const n of [1, 2]) {
    const got = driver.eventsOf(n).flatMap((event) => (event.type === 'token' ? [event.token] : []));
    expect(got).toEqual(Array.from({ length: 70 }, (_, i) => 16 + i));
    expect(driver.last(n)).toMatchObject({ type: 'finished', reason: 'length' });
  }
});

test('a resumed request brings its output along and hits its own pages', () => {
  const driver = new Driver({ numPages: 6, contextLength: 96 });
  driver.add(1, tokens(16, 1), { maxTokens: 40 });
  driver.add(2, tokens(16, 2), { maxTokens: 70 });
  stepUntil(driver, () => preemptions(driver).length > 0);
  const numTokens = 16 + driver.eventsOf(2).filter(({ type }) => type === 'token').length;
  for (;;) {
    const plan = driver.plan();
    const [admission] = plan?.admissions ?? [];
    if (admission !== undefined) {
      expect(admission).toMatchObject({ id: 2, generation: 2 });
      expect([...admission.tokens]).toEqual([...tokens(16, 2), ...new Array<number>(numTokens - 16).fill(7)]);
      expect(plan?.entries.find((entry) => entry.id === 2)?.start).toBeGreaterThanOrEqual(16);
      break;
    }
    driver.finish();
  }
  driver.drain();
  expect(driver.eventsOf(2).filter(({ type }) => type === 'started')).toHaveLength(1);
  expect(driver.eventsOf(2).filter(({ type }) => type === 'prefilled')).toHaveLength(1);
});

test('a token that was in flight when its request was preempted still arrives', () => {
  const driver = new Driver({ maxRows: 1 });
  driver.add(1, tokens(8, 1), { maxTokens: 3 });
  driver.plan();
  driver.core.pause(id(1));
  driver.add(2, tokens(8, 2), { maxTokens: 1 });
  driver.plan();
  driver.core.resume(id(1));
  driver.finish();
  expect(driver.eventsOf(1).map(({ type }) => type)).toEqual(['started', 'preempted', 'prefilled', 'token']);
  driver.finish();
  expect([...(driver.plan()?.admissions[0]?.tokens ?? [])]).toEqual([...tokens(8, 1), 7]);
  driver.drain();
  expect(driver.eventsOf(1).filter(({ type }) => type === 'token')).toHaveLength(3);
});

test('the lower priority gives way, even when it was admitted first', () => {
  const driver = new Driver({ numPages: 4, contextLength: 64, agingMs: 1_000 });
  driver.add(1, tokens(16, 1), { maxTokens: 48, priority: 0 });
  driver.plan();
  driver.finish();
  driver.add(2, tokens(16, 2), { maxTokens: 48, priority: 5 });
  driver.drain();
  expect(new Set(preemptions(driver))).toEqual(new Set([1]));
});

test('of two that may give way, the one close to its end is spared', () => {
  const driver = new Driver({ numPages: 6, contextLength: 96, prefixCache: false });
  driver.add(1, tokens(16, 1), { maxTokens: 60 });
  driver.add(2, tokens(16, 2), { maxTokens: 60 });
  // When 1 needs its third page, 3 has two pages as well and one token to go.
  driver.add(3, tokens(2, 3), { maxTokens: 18 });
  stepUntil(driver, () => preemptions(driver).length > 0);
  expect(preemptions(driver)).toEqual([2]);
  expect(driver.last(3)).toMatchObject({ type: 'finished' });
});

test('pages behind a fence are waited for instead of preempting somebody', () => {
  const driver = new Driver({ numPages: 5, contextLength: 64, prefixCache: false });
  driver.add(1, tokens(16, 1), { maxTokens: 40 });
  driver.add(2, tokens(2, 2), { maxTokens: 40 });
  driver.add(3, tokens(2, 3), { maxTokens: 40 });
  stepUntil(driver, () => driver.core.stats().steps === 16);
  // All pages are taken: 1 and 2 have two each, and 1 needs another one next.
  driver.plan();
  driver.core.abort(id(2));
  driver.plan();
  driver.finish();
  expect([...driver.planned().keys()]).toContain(1);
  expect(preemptions(driver)).toEqual([]);
});

test('nobody is admitted in a step in which somebody was preempted', () => {
  const driver = new Driver({ numPages: 6, contextLength: 96, prefixCache: false });
  driver.add(1, tokens(16, 1), { maxTokens: 48 });
  driver.add(2, tokens(60, 2), { maxTokens: 30 });
  stepUntil(driver, () => driver.core.stats().numFreePages === 0);
  // 3 outranks 2, and fits into the pages that 2 leaves to 1.
  driver.add(3, tokens(4, 3), { maxTokens: 4, priority: 9 });
  stepUntil(driver, () => preemptions(driver).length > 0);
  expect(preemptions(driver)).toEqual([2]);
  expect(driver.eventsOf(3)).toEqual([]);
  expect(driver.planned().has(3)).toBe(true);
});

test('what a victim was to compute in the step goes back to its budget', () => {
  const state = new SchedulerState({ ...CONFIG, maxStepTokens: 64 });
  takeIn(state, { ...REQUEST, id: id(1), promptTokens: tokens(100) });
  planStep(state);
  const [request] = state.running;
  if (request === undefined) throw new Error('expected a running request');
  const draft = new StepDraft(state);
  draft.place(request, 20);
  expect([draft.budget, draft.placed.length, request.pages.length]).toEqual([44, 1, 6]);
  draft.preempt(request);
  expect([draft.budget, draft.placed.length, request.pages.length]).toEqual([64, 0, 4]);
});

test('a paused request gives way before any that can run', () => {
  const driver = new Driver({ numPages: 6, contextLength: 96, prefixCache: false });
  driver.add(1, tokens(30, 1), { maxTokens: 40 });
  driver.add(2, tokens(16, 2), { maxTokens: 40 });
  driver.add(3, tokens(2, 3), { maxTokens: 40 });
  driver.plan();
  driver.core.pause(id(1));
  driver.finish();
  stepUntil(driver, () => preemptions(driver).length > 0);
  expect(preemptions(driver)).toEqual([1]);
});

test('a paused request keeps its pages when others come back in time', () => {
  const driver = new Driver({ numPages: 4, contextLength: 64, prefixCache: false });
  driver.add(1, tokens(16, 1), { maxTokens: 30 });
  driver.add(2, tokens(30, 2), { maxTokens: 1 });
  driver.plan();
  driver.core.pause(id(1));
  driver.core.abort(id(2));
  driver.add(3, tokens(20, 3), { maxTokens: 1 });
  expect(driver.plan()).toBeNull();
  driver.finish();
  expect([...driver.planned().keys()]).toEqual([3]);
  expect(preemptions(driver)).toEqual([]);
});

test('a paused request gives its pages to one that waits, and resumes where it was', () => {
  const driver = new Driver({ numPages: 4, contextLength: 64 });
  driver.add(1, tokens(33, 1), { maxTokens: 20 });
  driver.plan();
  driver.finish();
  driver.core.pause(id(1));
  driver.add(2, tokens(33, 2), { maxTokens: 20 });
  driver.drain();
  expect(preemptions(driver)).toEqual([1]);
  expect(driver.last(2)).toMatchObject({ type: 'finished' });
  driver.core.resume(id(1));
  driver.drain();
  expect(driver.eventsOf(1).filter(({ type }) => type === 'token')).toHaveLength(20);
});

test('paused requests that hold every row do not lock out the others', () => {
  const driver = new Driver({ maxRows: 2 });
  for (const n of [1, 2]) driver.add(n, tokens(8, n));
  driver.plan();
  driver.finish();
  for (const n of [1, 2]) driver.core.pause(id(n));
  driver.add(3, tokens(8, 3), { maxTokens: 3 });
  driver.drain();
  expect(driver.last(3)).toMatchObject({ type: 'finished' });
  expect(preemptions(driver)).toEqual([2]);
});

test('a paused request certain to end with the steps in flight keeps its row', () => {
  const driver = new Driver({ maxRows: 1 });
  driver.add(1, tokens(8, 1), { maxTokens: 1 });
  driver.plan();
  driver.core.pause(id(1));
  driver.add(2, tokens(8, 2));
  expect(driver.plan()).toBeNull();
  expect(preemptions(driver)).toEqual([]);
  driver.finish();
  expect(driver.last(1)).toMatchObject({ type: 'finished' });
});

test('nobody is admitted into pages that a running prompt still needs', () => {
  const driver = new Driver({ numPages: 9, contextLength: 128, maxStepTokens: 64, maxChunkTokens: 32 });
  driver.add(1, tokens(1, 1), { maxTokens: 10 });
  driver.plan();
  driver.finish();
  driver.add(2, tokens(100, 2), { maxTokens: 1 });
  driver.add(3, tokens(17, 3), { maxTokens: 60 });
  driver.drain();
  expect(preemptions(driver)).toEqual([]);
});
