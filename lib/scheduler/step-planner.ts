import { Limits } from '../native/abi';
import { admitWaiting } from './admission';
import { pagesFor, type RequestState } from './request-state';
import type { SchedulerState } from './scheduler-state';
import { addDrafts, awaitsResult, planGuesses } from './speculation/drafting';
import { StepDraft } from './step-draft';
import { isDecode } from './step-results';
import type { PlanAdmission, PlanEntry, PlanPageUpdate, StepPlan } from './types';

/** The next step, or null when nothing can run before a result, a command or a deadline. */
export function planStep(state: SchedulerState): StepPlan | null {
  expireDeadlines(state);
  if (state.inFlight.length >= queueDepth(state)) return null;
  if (awaitsResult(state) || state.draftModel?.isBusy) return null;
  const guesses = planGuesses(state);
  if (guesses !== null) return guesses;
  for (;;) {
    const draft = new StepDraft(state);
    planRunning(state, draft);
    if (draft.numPreempted === 0) admitWaiting(state, draft);
    if (draft.placed.length > 0) {
      addDrafts(state, draft);
      return emit(state, draft);
    }
    // Whoever was preempted may have made room; each turn preempts somebody, so this ends.
    if (draft.numPreempted > 0) continue;
    if (state.inFlight.length > 0 || !failStuck(state)) return null;
  }
}

/** So that a step is always queued behind the one that runs. */
const MIN_DEPTH = 2;
/** Whoever arrives, aborts or stops waits for what is queued, or sees it wasted; this much is not noticed. */
const MAX_QUEUED_MS = 16;

/**
 * How many steps may be outstanding: more than two where steps are short and each would wake this thread, and only while
 * running requests just go on.
 */
function queueDepth({ inFlight, waiting, numSpeculating, pace }: SchedulerState): number {
  const depth = pace.decodeMs === 0 ? MIN_DEPTH : Math.floor(MAX_QUEUED_MS / pace.decodeMs);
  if (depth <= MIN_DEPTH || waiting.length > 0 || numSpeculating > 0) return MIN_DEPTH;
  const goesOn = inFlight.every(({ plan }) => plan.entries.every(isDecode));
  return goesOn ? Math.min(depth, Limits.queueDepth) : MIN_DEPTH;
}

/** Each decode first, then prompt chunks from what is left, both in admission order. */
function planRunning(state: SchedulerState, draft: StepDraft): void {
  const running = [...state.running];
  const canRun = (request: RequestState): boolean =>
    !draft.isFull &&
    request.phase === 'running' &&
    !request.isPaused &&
    request.planCount === 0 &&
    draft.hasRoomFor(request);
  for (const request of running) {
    if (request.numRemaining !== 1 || !canRun(request)) continue;
    draft.place(request, 1);
    if (request.planCount > 0) draft.numDecodes += 1;
  }
  draft.beginPrompts();
  for (const request of running) {
    if (request.numRemaining > 1 && canRun(request)) draft.place(request, draft.chunkFor(request));
  }
}

const NO_DRAFTS = new Int32Array(0);

/** Makes the draft final: from here on its tokens count as planned. */
function emit(state: SchedulerState, draft: StepDraft): StepPlan {
  state.plannedStep += 1;
  const step = state.plannedStep;
  const admissions: PlanAdmission[] = [];
  const pageUpdates: PlanPageUpdate[] = [];
  const entries: PlanEntry[] = [];
  for (const request of draft.placed) {
    const { id, row, generation, numPlanned: start, planCount, drafted } = request;
    // A row whose page table native does not know yet was given out in this step.
    if (request.numSentPages === 0) {
      admissions.push({ row, generation, id, tokens: request.tokens.subarray(0, request.numTokens) });
    }
    for (let index = request.numSentPages; index < request.pages.length; index += 1) {
      const page = request.pages[index];
      if (page !== undefined) pageUpdates.push({ row, index, page });
    }
    const samples = request.isGenerating && start + planCount === request.historyLength;
    const count = planCount + request.numDrafted;
    entries.push({ row, generation, id, start, count, samples, drafts: drafted?.tokens ?? NO_DRAFTS });
    request.numSentPages = request.pages.length;
    request.numPlanned = start + planCount;
    request.planCount = 0;
    request.lastStep = step;
    if (samples) request.numSampling += 1;
  }
  const plan: StepPlan = { step, isDraft: false, admissions, pageUpdates, entries };
  state.inFlight.push({ plan, requests: draft.placed, plannedAt: state.now });
  return plan;
}

function expireDeadlines(state: SchedulerState): void {
  if (state.numDeadlines === 0) return;
  for (const request of [...state.requests.values()]) {
    if (request.deadline === null || state.now < request.deadline) continue;
    const message = `the deadline passed after ${request.numGenerated} of ${request.maxTokens} output tokens`;
    state.end(request, { type: 'failed', id: request.id, code: 'deadline_exceeded', message });
  }
}

/**
 * Nothing runs, nothing was admitted and nothing is in flight: no event would ever change that, so the head fails.
 * Arithmetic at intake rules this out as long as the accounts of pages and rows are right.
 */
function failStuck(state: SchedulerState): boolean {
  const isStuck = (request: RequestState): boolean => !request.isPaused;
  const head = state.running.find(isStuck) ?? state.waiting.requests.find(isStuck);
  if (head === undefined) return false;
  const { numFree, numCached, numPages } = state.pool;
  const message =
    `request ${head.id} needs ${pagesFor(head.numTokens)} KV pages and nothing else can run: ` +
    `${numFree} free, ${numCached} cached, ${numPages} in all; ${state.rows.numFree} rows free`;
  state.end(head, { type: 'failed', id: head.id, code: 'kv_exhausted', message });
  return true;
}
