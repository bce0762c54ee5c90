import { Limits } from '../../native/abi';
import { pagesFor, type RequestState } from '../request-state';
import type { SchedulerState } from '../scheduler-state';
import type { StepDraft } from '../step-draft';
import type { Draft, StepPlan } from '../types';
import { closeRound, expectsRound, planDraftStep } from './draft-rounds';
import { plainStep, type StepLoad } from './speculation';

/**
 * True when the next plan has to wait for a result: a step in flight verifies guesses, so that nobody knows where its
 * sequences end; or it samples a token after which there is probably something to guess, which gains more than planning
 * ahead. Everyone waits, since a step without those who guess would cost about as much as one with them.
 */
export function awaitsResult(state: SchedulerState): boolean {
  if (state.numSpeculating === 0 || state.inFlight.length === 0) return false;
  if (state.running.some(({ drafted }) => drafted !== null)) return true;
  if (!computesOnlyDecodes(state)) return false;
  if (expectsRound(state)) return true;
  const next = plainStep(state.running.filter((other) => !other.isPaused && other.numRemaining === 1).length);
  return state.running.some((request) => guessesAhead(state, request, next));
}

/** The step of a draft model that has to come before the next one of the target, or null. */
export function planGuesses(state: SchedulerState): StepPlan | null {
  const { draftModel } = state;
  if (draftModel === null || state.inFlight.length > 0) return null;
  if (computesOnlyDecodes(state)) return planDraftStep(state, draftModel);
  closeRound(state, draftModel); // somebody's prompt does not wait for the guesses of others
  return null;
}

/** The next step will be one position of each sequence. */
function computesOnlyDecodes({ running, waiting, rows }: SchedulerState): boolean {
  const canAdmit = waiting.length > 0 && rows.numFree > 0;
  return !canAdmit && running.every(({ isPaused, numRemaining }) => isPaused || numRemaining <= 1);
}

/** Its next token, if it is the one expected, has a continuation worth guessing. */
function guessesAhead({ costs }: SchedulerState, request: RequestState, next: StepLoad): boolean {
  const { speculation, isPaused, numSampling, tokens, numTokens } = request;
  if (speculation === null || isPaused || numSampling !== 1) return false;
  const draft = speculation.draft(tokens, numTokens, numDraftable(request) - 1, 1);
  if (draft === null) return false;
  return speculation.extended(next, draft.tokens.length, draft.grade, costs) !== next;
}

/** Output tokens that may still come after the next one: guesses beyond them could never count. */
const numDraftable = ({ maxTokens, numGenerated }: RequestState): number =>
  Math.min(Limits.maxDrafts, maxTokens - numGenerated - 1);

/**
 * Adds guesses to a step of decodes, as far as they are worth it. They take what is left of the budget and of the pages
 * nobody owns: nobody is preempted for a guess.
 */
export function addDrafts(state: SchedulerState, draft: StepDraft): void {
  if (state.numSpeculating === 0 || draft.numDecodes !== draft.placed.length) return;
  let numLeft: number = Limits.maxStepDrafts;
  let step = plainStep(draft.placed.length);
  for (const request of draft.placed) {
    // What is guessed follows everything before it, results included.
    if (request.speculation === null || request.numComputed < request.numPlanned) continue;
    const room = Math.min(numDraftable(request), draft.budget, numLeft);
    const guess = request.speculation.draft(request.tokens, request.numTokens, room);
    if (guess === null) continue;
    const { tokens, grade } = guess;
    const extended = request.speculation.extended(step, tokens.length, grade, state.costs);
    const drafted = { tokens: tokens.subarray(0, extended.numPositions - step.numPositions), grade };
    if (extended === step || !hasPages(state, request, drafted)) continue;
    draft.extend(request, drafted);
    numLeft -= drafted.tokens.length;
    step = extended;
  }
}

function hasPages({ pool }: SchedulerState, request: RequestState, { tokens }: Draft): boolean {
  const { numPlanned, planCount, pages } = request;
  return pagesFor(numPlanned + planCount + tokens.length) - pages.length <= pool.numAvailable;
}
