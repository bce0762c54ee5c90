import { Admission, Entry, Limits, PageUpdate } from '../native/abi';
import type { PrefixMatch } from './pages/prefix-cache';
import { pagesFor, type RequestState } from './request-state';
import type { SchedulerState } from './scheduler-state';
import type { StepDraft } from './step-draft';

/**
 * Gives rows to waiting requests, best rank first. The first that does not fit ends admission, so that a small request
 * never slips past a large one for ever.
 */
export function admitWaiting(state: SchedulerState, draft: StepDraft): void {
  for (const request of [...state.waiting.requests]) {
    if (draft.isFull) return;
    if (request.isPaused) continue;
    if (!draft.hasRoomFor(request)) return;
    // Its last tokens are still in flight, and its pages with them.
    if (request.isDraining) return;
    if (state.rows.numFree === 0) {
      preemptPaused(state, draft);
      return;
    }
    const match = state.cache.match(request);
    if (state.cache.isBeingComputed(request, match.pages.length, state.running)) continue;
    if (!fitsPool(state, draft, request, match) || !fitsPlan(state, draft, request, match)) return;
    admit(state, request, match);
    draft.numWords += Admission.numWords + request.numTokens;
    draft.place(request, draft.chunkFor(request));
  }
}

/**
 * The whole history must fit beside what those who run need for the rest of their prompts, one more page each at least:
 * admitting someone only to preempt them in the next step helps nobody.
 */
function fitsPool(
  state: SchedulerState,
  draft: StepDraft,
  request: RequestState,
  match: PrefixMatch,
): boolean {
  let needed = pagesFor(request.numTokens) - match.pages.length + match.numIdle;
  for (const { isPaused, numTokens, pages } of state.running) {
    if (!isPaused) needed += Math.max(1, pagesFor(numTokens) - pages.length);
  }
  if (needed <= state.pool.numAvailable) return true;
  if (needed > state.pool.numAvailable + draft.numReturning()) preemptPaused(state, draft);
  return false;
}

/** The plan buffer takes the entries of the step first, then as many histories as it holds. */
function fitsPlan(
  { config }: SchedulerState,
  draft: StepDraft,
  request: RequestState,
  match: PrefixMatch,
): boolean {
  const numPages = pagesFor(match.pages.length * Limits.pageSize + draft.budget);
  const numUpdates = Math.min(numPages, pagesFor(request.numTokens));
  const needed = Admission.numWords + request.numTokens + Entry.numWords + numUpdates * PageUpdate.numWords;
  return draft.numWords + needed <= config.maxPlanWords;
}

/** A paused request computes nothing, so it gives way to whoever can. It waits with its rank and resumes from there. */
function preemptPaused(state: SchedulerState, draft: StepDraft): void {
  let victim: RequestState | null = null;
  for (const request of state.running) {
    if (!request.isPaused || request.numRemaining === 0) continue;
    if (victim === null || victim.outranks(request)) victim = request;
  }
  if (victim !== null) draft.preempt(victim);
}

function admit(state: SchedulerState, request: RequestState, match: PrefixMatch): void {
  const { row, generation } = state.rows.take();
  state.waiting.remove(request);
  state.running.push(request);
  request.phase = 'running';
  request.row = row;
  request.generation = generation;
  for (const page of match.pages) {
    state.pool.share(page);
    request.pages.push(page);
  }
  const numCached = match.pages.length * Limits.pageSize;
  request.numComputed = numCached;
  request.numPlanned = numCached;
  request.numPublishedPages = match.pages.length;
  if (request.hasStarted) return;
  request.hasStarted = true;
  if (request.sharesPrefix) state.prefixQueryTokens += request.numTokens;
  state.prefixHitTokens += numCached;
  state.events.push({ type: 'started', id: request.id, cachedTokens: numCached });
}
