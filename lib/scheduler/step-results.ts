import { AutoglmError } from '../errors';
import { Finish } from '../native/abi';
import type { RequestState } from './request-state';
import type { SchedulerState, StepInFlight } from './scheduler-state';
import type { EntryResult, PlanEntry, SchedulerEvent, StepResult } from './types';

/** Takes in the result of the oldest step in flight. Results for requests that have ended are dropped. */
export function applyResult(state: SchedulerState, result: StepResult): void {
  const inFlight = takeOldest(state, result.step);
  const { entries } = inFlight.plan;
  if (result.entries.length !== entries.length) {
    throw new AutoglmError(
      'internal',
      `step ${result.step} has ${entries.length} entries, its result ${result.entries.length}`,
    );
  }
  let numTokens = 0;
  for (let i = 0; i < entries.length; i += 1) {
    const entry = entries[i] as PlanEntry;
    const found = result.entries[i] as EntryResult;
    if (found.row !== entry.row || found.generation !== entry.generation) {
      const expected = `row ${entry.row} generation ${entry.generation}`;
      throw new AutoglmError(
        'internal',
        `entry ${i} of step ${result.step}: expected ${expected}, got row ${found.row} generation ${found.generation}`,
      );
    }
    numTokens += entry.count;
    const request = inFlight.requests[i] as RequestState;
    if (request.phase !== 'ended') applyEntry(state, request, entry, found, i);
  }
  state.throughput.stepEnded(inFlight.plannedAt, state.now, numTokens);
  state.passFence(result.step);
}

/** The step failed as a whole: whoever had an entry in it fails, everybody else goes on. */
export function applyStepFailure(state: SchedulerState, step: number, message: string): void {
  const { requests } = takeOldest(state, step);
  for (const request of requests) {
    if (request.phase !== 'ended') {
      state.end(request, { type: 'failed', id: request.id, code: 'engine_failed', message });
    }
  }
  state.passFence(step);
}

function takeOldest(state: SchedulerState, step: number): StepInFlight {
  const oldest = state.inFlight[0];
  if (oldest === undefined || oldest.plan.step !== step) {
    const expected =
      oldest === undefined ? 'no step is in flight' : `step ${oldest.plan.step} is the oldest in flight`;
    throw new AutoglmError('internal', `got a result of step ${step}, but ${expected}`);
  }
  state.inFlight.shift();
  return oldest;
}

function applyEntry(
  state: SchedulerState,
  request: RequestState,
  entry: PlanEntry,
  result: EntryResult,
  index: number,
): void {
  const { id } = request;
  if (result.finish === Finish.numericError) {
    const message = `the model computed no finite number at position ${entry.start + entry.count - 1}`;
    state.end(request, { type: 'failed', id, code: 'numeric_error', message });
    return;
  }
  const isMissing = entry.samples && result.token < 0;
  if (result.finish === Finish.skipped || isMissing) {
    const what = isMissing ? 'sampled no token for' : 'skipped';
    const message = `step ${state.appliedStep + 1} ${what} a request that still runs`;
    state.end(request, { type: 'failed', id, code: 'engine_failed', message });
    return;
  }
  request.numComputed = entry.start + entry.count;
  state.cache.publish(request);
  if (!request.hasPrefilled && request.numComputed >= request.numPromptTokens) {
    request.hasPrefilled = true;
    state.events.push({ type: 'prefilled', id });
  }
  if (entry.samples) {
    request.numSampling -= 1;
    request.append(result.token);
    state.events.push({ type: 'token', id, token: result.token, entry: index });
  }
  const ending = endingOf(request, result);
  if (ending !== null) state.end(request, ending);
}

/** The event that ends the request after this entry, or null when it goes on. */
function endingOf(request: RequestState, result: EntryResult): SchedulerEvent | null {
  const { id } = request;
  if (!request.isGenerating) {
    return request.numComputed >= request.numPromptTokens
      ? { type: 'finished', id, reason: 'evaluated' }
      : null;
  }
  if (result.finish === Finish.stop) return { type: 'finished', id, reason: 'stop' };
  if (result.finish === Finish.length || request.numGenerated >= request.maxTokens) {
    return { type: 'finished', id, reason: 'length' };
  }
  return null;
}
