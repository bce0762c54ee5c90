import { describe, expect, test } from 'vitest';
import { CONFIG, id, REQUEST, tokens } from '../unit/scheduler/scheduler-driver';
import { FakeEngine } from './fake-model';
import { FAULTS } from './faults';
import { loadScheduler, type Patch } from './patched-modules';
import { Simulation } from './simulation';

/** Seeds within which each fault must be noticed. Most need fewer than twenty, one some 2,100. */
const NUM_SEEDS = 4_000;

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

// Goal: the liveness rule, which arithmetic at intake makes unreachable. Method: leak every page that is given back.
test('when pages leak, a request that can never run fails instead of waiting for ever', () => {
  const leak = { file: 'pages/page-pool.ts', find: 'if (owners > 1) return;', replace: 'return;' };
  const core = loadScheduler([leak])({ ...CONFIG, numPages: 4, contextLength: 64 });
  const request = (n: number) => ({
    ...REQUEST,
    id: id(n),
    promptTokens: tokens(40, n),
    maxTokens: 2,
    stops: false,
  });
  const engine = new FakeEngine(4, request);
  for (const n of [1, 2]) core.add(request(n));
  for (let plan = core.schedule(); plan !== null; plan = core.schedule()) {
    core.apply(engine.execute(plan, () => false));
  }
  const ends = core.takeEvents().filter(({ type }) => type === 'finished' || type === 'failed');
  expect(ends).toMatchObject([
    { type: 'finished', id: 1 },
    { type: 'failed', id: 2, code: 'kv_exhausted', message: expect.stringContaining('needs 3 KV pages') },
  ]);
});
