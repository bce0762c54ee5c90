import { describe, expect, test } from 'vitest';
import { FAULTS } from './faults';
import { loadScheduler, type Patch } from './patched-modules';
import { Simulation } from './simulation';

/** Seeds within which each fault must be noticed. The frequent ones fall in the first few. */
const NUM_SEEDS = 400;

/** The first seed whose run breaks a rule, with the rule; null when all runs pass. */
function firstFailure(patches: readonly Patch[]): string | null {
  const create = loadScheduler(patches);
  for (let seed = 0; seed < NUM_SEEDS; seed += 1) {
    try {
      new Simulation(seed, create).run();
    } catch (error) {
      return `seed ${seed}: ${(error as Error).message}`;
    }
  }
  return null;
}

// Goal: the simulation would notice a mistake. Method: plant one in the source text, run seeds until a rule breaks.
describe('each planted fault is noticed', () => {
  test('the scheduler as it is passes the same seeds', () => {
    expect(firstFailure([])).toBeNull();
  });

  test.each(FAULTS)('$name', ({ patches }) => {
    expect(firstFailure(patches)).not.toBeNull();
  });
});
