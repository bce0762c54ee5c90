import { AutoglmError } from '../errors';
import { Finish } from '../native/abi';
import type { RequestState } from './request-state';
import type { SchedulerState, StepInFlight } from './scheduler-state';
import type { Draft, EntryResult, PlanEntry, SchedulerEvent, StepResult } from './types';

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
  let resultRow = 0;
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
    if (request.phase !== 'ended') applyEntry(state, request, entry, found, resultRow);
    resultRow += 1 + entry.drafts.length;
  }
  const elapsed = state.throughput.stepEnded(inFlight.plannedAt, state.now, numTokens);
  settleRound(state, inFlight, result, elapsed);
  if (entries.every(isDecode)) {
    state.costs.record(numTokens, elapsed);
    state.pace.recordDecodes(elapsed);
  } else {
    state.pace.recordPrompts(numTokens, elapsed);
  }
  state.passFence(result.step);
}

/** The step's time and tokens show whether the guesses before it were worth theirs. */
function settleRound(
  { draftModel, costs }: SchedulerState,
  { plan }: StepInFlight,
  { entries }: StepResult,
  elapsed: number,
): void {
  if (draftModel === null || !plan.entries.every(isDecode)) return;
  const numAccepted = entries.reduce((sum, { further }) => sum + further.length, 0);
  const numSequences = entries.length;
  const plain = costs.isKnown(numSequences) ? costs.of(numSequences, numSequences) : elapsed;
  draftModel.economy.decoded({ numSequences, numAccepted, elapsed, plain });
}

/** It computes one position of its sequence, and guesses. */
export const isDecode = ({ count, drafts, samples }: PlanEntry): boolean =>
  samples && count - drafts.length === 1;

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
  resultRow: number,
): void {
  const { id } = request;
  if (result.finish === Finish.numericError) {
    const message = `the model computed no finite number at position ${knownEnd(entry) - 1}`;
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
  request.numComputed = knownEnd(entry) + result.further.length;
  if (!request.hasPrefilled && request.numComputed >= request.numPromptTokens) {
    request.hasPrefilled = true;
    state.events.push({ type: 'prefilled', id });
  }
  if (request.drafted !== null) settleDrafts(state, request, request.drafted, result);
  if (entry.samples) {
    request.numSampling -= 1;
    if (entry.drafts.length === 0)
      request.speculation?.observe(request.tokens, request.numTokens, result.token);
    request.append(result.token);
    state.events.push({ type: 'token', id, token: result.token, resultRow });
    result.further.forEach((token, i) => {
      request.append(token);
      state.events.push({ type: 'token', id, token, resultRow: resultRow + 1 + i });
    });
  }
  state.cache.publish(request);
  const ending = endingOf(request, result);
  if (ending !== null) state.end(request, ending);
}

/** Where the history ended when the entry was planned, and its guesses begin. */
const knownEnd = ({ start, count, drafts }: PlanEntry): number => start + count - drafts.length;

/** Positions of right guesses are computed; those of wrong ones will be written again, so their pages go back. */
function settleDrafts(
  state: SchedulerState,
  request: RequestState,
  { tokens, grade }: Draft,
  { further, finish }: EntryResult,
): void {
  const numDrafted = tokens.length;
  const numAccepted = further.length;
  request.drafted = null;
  request.numPlanned = request.numComputed;
  state.trimPages(request);
  request.speculation?.settle(grade, numAccepted, numAccepted < numDrafted && finish === Finish.none);
  state.numDrafted += numDrafted;
  state.numAccepted += numAccepted;
  state.events.push({ type: 'drafted', id: request.id, numDrafted, numAccepted });
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
