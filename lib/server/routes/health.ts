import type { ModelStats } from '../../engine/stats-types';
import type { Engine } from '../../engine/types';
import { AutoglmError } from '../../errors';
import type { CallRegistry } from '../call';
import type { ServerLimits } from '../options';
import type { Health } from '../wire/responses';

/** An engine that cannot even say how it is within this time is not serving anybody. */
const STATS_WAIT_MS = 2_000;

async function statsInTime(engine: Engine): Promise<Readonly<Record<string, ModelStats>>> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new AutoglmError('engine_failed', `the engine did not answer within ${STATS_WAIT_MS} ms`)),
      STATS_WAIT_MS,
    );
  });
  try {
    return (await Promise.race([engine.stats(), late])).models;
  } finally {
    clearTimeout(timer);
  }
}

/** Healthy means that a step finished lately or that there is no work. */
export async function checkHealth(
  engine: Engine,
  calls: CallRegistry,
  limits: ServerLimits,
): Promise<Health> {
  if (calls.isDraining) return { status: 'draining', reason: 'the server is shutting down' };
  let models: Readonly<Record<string, ModelStats>>;
  try {
    models = await statsInTime(engine);
  } catch (error) {
    return { status: 'failed', reason: AutoglmError.is(error) ? error.code : 'internal' };
  }
  for (const stats of Object.values(models)) {
    const hasWork = stats.numRunning + stats.numWaiting > 0;
    // Before the first step ever, the oldest call tells how long the work has been there.
    const ageMs = stats.lastStepAgeMs ?? calls.oldestAgeMs;
    // A step that ended before the oldest call came says nothing against an engine that was idle since.
    const stuckMs = Math.min(ageMs, calls.size === 0 ? ageMs : calls.oldestAgeMs);
    if (hasWork && stuckMs > limits.stepAgeMs)
      return { status: 'stalled', reason: `no step has finished for ${Math.round(stuckMs)} ms` };
  }
  return { status: 'ok', reason: null };
}
