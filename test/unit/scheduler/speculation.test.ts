import { describe, expect, test } from 'vitest';
import { Finish, Limits } from '../../../lib/native/abi';
import { PromptLookup } from '../../../lib/scheduler/speculation/prompt-lookup';
import { StepCosts } from '../../../lib/scheduler/speculation/step-costs';
import type { Drafter, DraftSettings, PlanEntry } from '../../../lib/scheduler/types';
import { type Answer, Driver, tokens } from './scheduler-driver';

const lookUp = (history: readonly number[], most = 8): number[] =>
  Array.from(new PromptLookup().draft(Int32Array.from(history), history.length, most)?.tokens ?? []);

describe('prompt lookup', () => {
  test('goes on as the sequence did after its last tokens', () => {
    expect(lookUp([1, 2, 3, 4, 5, 6, 1, 2], 3)).toEqual([3, 4, 5]);
  });

  test('prefers the longest match, and of equal ones the latest', () => {
    expect(lookUp([9, 1, 2, 70, 8, 1, 2, 71, 5, 9, 1, 2], 1)).toEqual([70]);
    expect(lookUp([8, 1, 2, 70, 9, 1, 2, 71, 5, 1, 2], 1)).toEqual([71]);
  });

  test('goes round when the earlier place runs into the end', () => {
    expect(lookUp([7, 1, 2, 3, 1, 2, 3, 1, 2], 7)).toEqual([3, 1, 2, 3, 1, 2, 3]);
    expect(lookUp([5, 5, 5], 4)).toEqual([5, 5, 5, 5]);
  });

  test('says nothing about what never occurred, or occurred as a single token', () => {
    for (const history of [[1], [1, 1], [1, 2], [1, 2, 3, 4], [3, 1, 4, 1]])
      expect(lookUp(history)).toEqual([]);
  });

  test('knows its place in a sequence that grows, as one that starts there', () => {
    const history = Int32Array.from({ length: 3000 }, (_, i) => (i * i + (i >> 4)) % 23);
    const growing = new PromptLookup();
    for (let length = 1; length <= history.length; length += 1) {
      const draft = growing.draft(history, length, 4);
      if (length % 97 === 0) expect(draft).toEqual(new PromptLookup().draft(history, length, 4));
    }
  });

  test('tells long matches from short ones', () => {
    const gradeAfter = (length: number): number | undefined => {
      const common = Array.from({ length }, (_, i) => 10 + i);
      return new PromptLookup().draft(Int32Array.from([1, ...common, 3, 2, ...common]), 3 + 2 * length, 1)
        ?.grade;
    };
    expect([2, 3, 5, 10, 30].map(gradeAfter)).toEqual([0, 1, 2, 3, 3]);
  });
});

describe('the cost of a step', () => {
  test('lies between its measured neighbours, and beyond the widest is taken to stay', () => {
    const costs = new StepCosts();
    costs.record(1, 4);
    expect(costs.of(9, 1)).toBe(4);
    costs.record(5, 8);
    expect([1, 2, 3, 5, 20].map((width) => costs.of(width, 1))).toEqual([4, 5, 6, 8, 8]);
  });

  test('follows what is measured, and one long stall moves it little', () => {
    const costs = new StepCosts();
    for (let i = 0; i < 50; i += 1) costs.record(2, 3);
    costs.record(2, 1000);
    expect(costs.of(2, 2)).toBeLessThan(4);
    for (let i = 0; i < 50; i += 1) costs.record(2, 6);
    expect(costs.of(2, 2)).toBeCloseTo(6, 2);
  });

  test('is forgotten when it was not measured for long', () => {
    const costs = new StepCosts();
    costs.record(8, 90);
    for (let i = 0; i < 300; i += 1) costs.record(1, 4);
    expect(costs.isKnown(8)).toBe(false);
    expect(costs.of(8, 1)).toBe(4);
  });
});

/** Guesses `count` times token 7, which the driver's engine samples unless told otherwise. */
const sevens: Drafter = { draft: (_, __, count) => ({ tokens: new Int32Array(count).fill(7), grade: 0 }) };
const always: DraftSettings = { drafter: sevens, maxTokens: 4, isAdaptive: false };
const adaptive: DraftSettings = { ...always, isAdaptive: true };

/** Every guess is right. */
const right = ({ drafts }: PlanEntry): Answer => ({ further: [...drafts] });
const wrong = (): Answer => ({ token: 8 });

/** A request behind its first token, nothing in flight. */
function decoding(
  drafts: DraftSettings,
  options: { count?: number; config?: object; maxTokens?: number } = {},
): Driver {
  const { count = 1, config = {}, maxTokens = 60 } = options;
  const driver = new Driver(config);
  for (let n = 0; n < count; n += 1) driver.add(n, tokens(4, n + 1), { drafts, maxTokens });
  driver.plan();
  driver.finish();
  return driver;
}

describe('guesses', () => {
  test('are computed behind the history, and nothing is planned before they are settled', () => {
    const driver = decoding(always);
    expect(driver.planned().get(0)).toMatchObject({
      start: 4,
      count: 5,
      samples: true,
      drafts: Int32Array.of(7, 7, 7, 7),
    });
    expect(driver.plan()).toBeNull();
    driver.finish(() => ({ further: [7, 9] }));
    expect(driver.planned().get(0)).toMatchObject({ start: 7, count: 5 });
    const counts = driver.eventsOf(0).filter(({ type }) => type === 'drafted');
    expect(counts).toEqual([{ type: 'drafted', id: 0, numDrafted: 4, numAccepted: 2 }]);
    expect(driver.core.stats()).toMatchObject({ draftedTokens: 4, acceptedTokens: 2 });
  });

  test('end with the output', () => {
    const driver = decoding(always, { maxTokens: 4 });
    const entry = driver.planned().get(0);
    expect(entry?.drafts).toHaveLength(2);
    driver.finish(() => ({ further: [7, 7], finish: Finish.length }));
    expect(driver.last(0)).toMatchObject({ type: 'finished', reason: 'length' });
  });

  test('of a step are bounded, in all and for each request', () => {
    const driver = decoding(
      { ...always, maxTokens: Limits.maxDrafts },
      { count: 6, config: { maxStepTokens: 256 } },
    );
    const drafted = [...driver.planned().values()].map(({ drafts }) => drafts.length);
    expect(drafted).toEqual([16, 16, 16, 16, 0, 0]);
  });

  test('keep out of steps that compute prompts', () => {
    const driver = decoding(always);
    driver.add(5, tokens(20, 9));
    expect(driver.planned().get(0)?.drafts).toHaveLength(0);
  });
});

describe('a request that guesses where it pays', () => {
  /** Steps of a model in which one position costs 10 ms and each further one `perGuess`. */
  function run(
    driver: Driver,
    perGuess: number,
    answer: (entry: PlanEntry) => Answer,
    numSteps: number,
  ): number[] {
    const widths: number[] = [];
    for (let step = 0; step < numSteps && driver.core.stats().numRunning > 0; step += 1) {
      driver.plan();
      const plan = driver.outstanding[0];
      const width = plan?.entries.reduce((sum, { count }) => sum + count, 0) ?? 0;
      driver.core.now += 10 + perGuess * (width - 1);
      widths.push(width);
      driver.finish(answer);
    }
    return widths;
  }
  const long = { maxTokens: 400 };

  test('begins with a step without guesses, then guesses as many as are allowed when they cost nothing', () => {
    const widths = run(decoding(adaptive, long), 0, right, 20);
    expect(widths[0]).toBe(1);
    expect(widths.slice(2)).toEqual(new Array(18).fill(5));
  });

  test('tries once and stops when wider steps cost too much, however right it is', () => {
    const widths = run(decoding(adaptive, long), 30, right, 100);
    expect(widths.filter((width) => width > 1).length).toBeLessThanOrEqual(2);
  });

  test('stops soon when it is always wrong, and plans ahead again', () => {
    const driver = decoding(adaptive, long);
    const widths = run(driver, 1, wrong, 100);
    expect(widths.slice(40)).toEqual(new Array(60).fill(1));
    driver.plan();
    driver.plan();
    expect(driver.outstanding).toHaveLength(2);
  });

  test('starts again when its guesses would have been right', () => {
    const driver = decoding(adaptive, long);
    run(driver, 1, wrong, 60);
    expect(run(driver, 1, right, 60).at(-1)).toBe(5);
  });
});
