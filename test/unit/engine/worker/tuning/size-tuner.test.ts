import { describe, expect, test } from 'vitest';
import { SizeTuner } from '../../../../../lib/engine/worker/tuning/size-tuner';
import { type StepCut, untunedCut } from '../../../../../lib/engine/worker/tuning/step-cut';
import { seededRandom } from '../../../../engine/engine-under-test';

type Machine = (cut: StepCut, step: number) => number;

const ONE_ROW = { numPositions: 1, numEntries: 1 };

/** Runs steps until the tuner is settled, each reported when the one after it has been chosen, as plans are queued ahead. */
function tune(numThreads: number, machine: Machine, maxSteps = 2000): { best: StepCut; cuts: StepCut[] } {
  const tuner = new SizeTuner(untunedCut(numThreads));
  const cuts: StepCut[] = [];
  let report = (): void => {};
  for (let step = 0; step < maxSteps && !tuner.isSettled; step += 1) {
    const { cut, trial } = tuner.choose();
    cuts.push(cut);
    report();
    const micros = machine(cut, step);
    report = () => {
      if (trial !== null) tuner.record(trial, ONE_ROW, micros);
    };
  }
  report();
  expect(tuner.isSettled).toBe(true);
  return { best: tuner.best, cuts };
}

/** Time of a step that likes `best`, and loses `loss` of its speed with each factor of two away from it. */
const likes =
  (best: StepCut, loss: number): Machine =>
  ({ numThreads, chunkPercent }) => {
    const distance =
      Math.abs(Math.log2(numThreads / best.numThreads)) +
      Math.abs(Math.log2(chunkPercent / best.chunkPercent));
    return 4000 * (1 + loss) ** distance;
  };

describe('a size tuner', () => {
  test.each<StepCut>([
    { numThreads: 8, chunkPercent: 100 },
    { numThreads: 8, chunkPercent: 400 },
    { numThreads: 8, chunkPercent: 25 },
    { numThreads: 2, chunkPercent: 100 },
    { numThreads: 1, chunkPercent: 800 },
    { numThreads: 4, chunkPercent: 50 },
  ])('climbs to $numThreads threads and $chunkPercent %', (best) => {
    expect(tune(8, likes(best, 0.15)).best).toEqual(best);
  });

  test('finds a gain of 20 % on a machine that is noisy and slows down steadily', () => {
    const machine = likes({ numThreads: 2, chunkPercent: 200 }, 0.2);
    let numFound = 0;
    for (let seed = 0; seed < 100; seed += 1) {
      const random = seededRandom(seed);
      const { best } = tune(
        2,
        (cut, step) => machine(cut, step) * (1 + step / 500) * (0.95 + 0.1 * random()),
      );
      if (best.chunkPercent === 200) numFound += 1;
    }
    expect(numFound).toBeGreaterThanOrEqual(98);
  });

  // Goal: noise alone changes nothing. Method: every cut takes the same time, give or take a third; a step in twenty takes
  // ten times as long.
  test('stays where it is when nothing gains, however noisy the machine', () => {
    let numMoved = 0;
    for (let seed = 0; seed < 200; seed += 1) {
      const random = seededRandom(seed);
      const noise = (): number => (random() < 0.05 ? 10 : 0.67 + 0.67 * random());
      if (tune(4, () => 4000 * noise()).best.numThreads !== 4) numMoved += 1;
    }
    expect(numMoved).toBeLessThanOrEqual(2);
  });

  test('leaves what it has for more than 5 % only', () => {
    const gains = (share: number) =>
      tune(2, ({ chunkPercent }) => (chunkPercent === 200 ? 10_000 * (1 - share) : 10_000)).best.chunkPercent;
    expect(gains(0.04)).toBe(100);
    expect(gains(0.06)).toBe(200);
  });

  // Two are chosen before the first has been reported.
  test.each([
    { name: 'short steps', factor: 1, most: 6 },
    { name: 'steps of 80 ms', factor: 20, most: 2 },
  ])('spends at most $most $name on each cut that is slower', ({ factor, most }) => {
    const machine = likes({ numThreads: 4, chunkPercent: 100 }, 0.5);
    const { cuts } = tune(4, (cut, step) => factor * machine(cut, step));
    const numSteps = new Map<string, number>();
    for (const cut of cuts) numSteps.set(JSON.stringify(cut), (numSteps.get(JSON.stringify(cut)) ?? 0) + 1);
    numSteps.delete(JSON.stringify(untunedCut(4)));
    expect(numSteps.size).toBe(3);
    for (const count of numSteps.values()) expect(count).toBeLessThanOrEqual(most);
  });

  test('goes on after failed steps and never compares steps of different sizes', () => {
    const tuner = new SizeTuner(untunedCut(1));
    // Times are such that the candidate would win every round that mixes sizes.
    for (let step = 0; step < 400; step += 1) {
      const { cut, trial } = tuner.choose();
      const isCandidate = cut.chunkPercent !== 100;
      if (trial === null || step % 7 === 3) continue; // that step failed
      const size = isCandidate ? { numPositions: 64, numEntries: 1 } : { numPositions: 17, numEntries: 1 };
      tuner.record(trial, size, isCandidate ? 10 : 1000);
    }
    expect(tuner.isSettled).toBe(false);
    expect(tuner.best).toEqual(untunedCut(1));
    for (let step = 0; step < 400; step += 1) {
      const { cut, trial } = tuner.choose();
      if (trial !== null && step % 7 !== 3)
        tuner.record(trial, ONE_ROW, cut.chunkPercent === 50 ? 900 : 1000);
    }
    expect(tuner.isSettled).toBe(true);
    expect(tuner.best.chunkPercent).toBe(50);
  });

  test('tries nothing before the first steps have touched the memory', () => {
    const tuner = new SizeTuner(untunedCut(2));
    expect([0, 1, 2, 3].map(() => tuner.choose().trial)).toEqual([null, null, null, null]);
    expect(tuner.choose().trial).not.toBeNull();
  });
});
