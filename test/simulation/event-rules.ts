import type { SchedulerEvent, StepPlan, StepResult } from '../../lib/scheduler/types';
import { demand } from './plan-rules';
import type { Simulation } from './simulation';
import type { TrackedRequest } from './tracked-request';

/** Brings the records up to date with the events, each of which must be allowed just then. */
export function checkEvents(
  simulation: Simulation,
  events: readonly SchedulerEvent[],
  plan: StepPlan | null,
  result: StepResult | null = null,
): void {
  for (const event of events) {
    const tracked = simulation.live.get(event.id);
    if (tracked === undefined)
      throw new Error(`${event.type} for request ${event.id}, which has ended or never was`);
    checkEvent(simulation, tracked, event, plan, result);
  }
}

function checkEvent(
  simulation: Simulation,
  tracked: TrackedRequest,
  event: SchedulerEvent,
  plan: StepPlan | null,
  result: StepResult | null,
): void {
  const { id } = event;
  switch (event.type) {
    case 'started': {
      demand(!tracked.hasStarted, 'a request starts once', { id });
      tracked.hasStarted = true;
      const start = plan?.entries.find((entry) => entry.id === id)?.start;
      demand(start === event.cachedTokens, 'cached tokens are not computed', {
        id,
        start,
        cached: event.cachedTokens,
      });
      return;
    }
    case 'prefilled':
      demand(
        tracked.hasStarted && !tracked.hasPrefilled && tracked.numReceived === 0,
        'prefilled comes once',
        { id },
      );
      demand(tracked.numComputed >= tracked.request.promptTokens.length, 'prefilled means computed', { id });
      tracked.hasPrefilled = true;
      return;
    case 'token': {
      const expected = tracked.solo.tokens[tracked.numReceived];
      const index = tracked.numReceived;
      demand(event.token === expected, 'tokens equal the solo run', {
        id,
        index,
        token: event.token,
        expected,
      });
      demand(tracked.hasPrefilled, 'tokens come after prefilled', { id });
      const [owner, named, place] = resultRowOf(plan, result, event.resultRow);
      demand(owner === id && named === event.token, 'a token names its result row', {
        id,
        resultRow: event.resultRow,
      });
      tracked.numReceived += 1;
      if (place === 0) tracked.numSampling -= 1;
      simulation.count(tracked.phase === 'waiting' ? 'token while preempted' : 'token');
      return;
    }
    case 'drafted': {
      const index = plan?.entries.findIndex((entry) => entry.id === id) ?? -1;
      const counts = [event.numDrafted, event.numAccepted];
      const expected = [plan?.entries[index]?.drafts.length, result?.entries[index]?.further.length];
      demand(counts.join() === expected.join(), 'guesses are counted', { id, counts, expected });
      const share = event.numAccepted === event.numDrafted ? 'all' : event.numAccepted > 0 ? 'some' : 'none';
      simulation.count(`guesses right: ${share}`);
      return;
    }
    case 'preempted':
      demand(tracked.phase === 'running', 'only who runs is preempted', { id });
      tracked.phase = 'waiting';
      return;
    case 'finished':
      checkFinished(simulation, tracked, event.reason);
      break;
    case 'failed':
      checkFailed(simulation, tracked, event.code);
      break;
    case 'aborted':
      break;
  }
  tracked.phase = 'ended';
  simulation.live.delete(id);
  simulation.count(event.type === 'failed' ? event.code : event.type);
}

/** Whose result row it is, the token in it, and its place among the tokens of the entry. */
function resultRowOf(plan: StepPlan | null, result: StepResult | null, resultRow: number): number[] {
  let first = 0;
  for (const [i, { id, drafts }] of (plan?.entries ?? []).entries()) {
    const place = resultRow - first;
    const found = result?.entries[i];
    if (place <= drafts.length && found !== undefined)
      return [id, [found.token, ...found.further][place] ?? -1, place];
    first += 1 + drafts.length;
  }
  return [];
}

function checkFinished(simulation: Simulation, tracked: TrackedRequest, reason: string): void {
  const { id } = tracked.request;
  const { solo, numReceived } = tracked;
  demand(reason === solo.reason, 'a request ends as it does alone', { id, reason, expected: solo.reason });
  demand(numReceived === solo.tokens.length, 'it gets as many tokens', {
    id,
    numReceived,
    expected: solo.tokens.length,
  });
  if (tracked.isGenerating) return;
  const output = simulation.engine.outputs.get(id);
  const wrong = solo.values.findIndex((value, position) => output?.[position] !== value);
  demand(wrong < 0, 'an evaluation puts out what it does alone', { id, position: wrong });
}

function checkFailed(simulation: Simulation, tracked: TrackedRequest, code: string): void {
  const { id, deadline } = tracked.request;
  if (code === 'deadline_exceeded') {
    const { now } = simulation.core;
    demand(deadline !== null && now >= deadline, 'a deadline that has not passed fails nobody', {
      id,
      now,
      deadline,
    });
    simulation.count(`deadline ${tracked.phase}`);
  } else {
    demand(code === tracked.mayFail, 'a request fails only by what was injected', { id, code });
  }
}
