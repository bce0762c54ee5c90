import { Limits } from '../../native/abi';
import type { RequestState } from '../request-state';
import type { SchedulerState } from '../scheduler-state';
import type { StepPlan, StepResult } from '../types';
import type { DraftCandidate, DraftChoice } from './draft-economy';
import type { DraftModel } from './draft-model';
import type { DraftOrder } from './draft-sequences';

interface Candidate extends DraftCandidate {
  readonly request: RequestState;
  readonly isAdaptive: boolean;
}

/** The draft model's next step, or null when the next step is the target's. Before each of those there is one round. */
export function planDraftStep(state: SchedulerState, draftModel: DraftModel): StepPlan | null {
  if (draftModel.orders === null && !openRound(state, draftModel)) return null;
  const plan = draftModel.sequences.nextStep();
  if (plan === null) closeRound(state, draftModel);
  else draftModel.plannedAt = state.now;
  return plan;
}

/** A round will be worth it once the results in flight are there, as far as anyone knows. */
export function expectsRound(state: SchedulerState): boolean {
  const { draftModel } = state;
  return draftModel !== null && chooseOrders(state, draftModel, candidatesOf(state, 1)).length > 0;
}

export function applyDraftResult(state: SchedulerState, draftModel: DraftModel, result: StepResult): void {
  const { inFlight } = draftModel.sequences;
  draftModel.sequences.apply(result);
  chargeStep(state, draftModel, inFlight);
}

/** Its guesses are lost; the requests themselves go on. */
export function applyDraftFailure(state: SchedulerState, draftModel: DraftModel, step: number): void {
  const { inFlight } = draftModel.sequences;
  draftModel.sequences.applyFailure(step);
  chargeStep(state, draftModel, inFlight);
}

function chargeStep(
  { now }: SchedulerState,
  { economy, plannedAt }: DraftModel,
  plan: StepPlan | null,
): void {
  const entries = plan?.entries ?? [];
  const numPositions = entries.reduce((sum, { count }) => sum + count, 0);
  economy.stepEnded(numPositions, entries.length, now - plannedAt);
}

function openRound(state: SchedulerState, draftModel: DraftModel): boolean {
  const orders = chooseOrders(state, draftModel, candidatesOf(state, 0));
  if (orders.length === 0) return false;
  draftModel.orders = orders;
  draftModel.sequences.begin(orders);
  return true;
}

/** Hands over what has been guessed. */
export function closeRound({ requests }: SchedulerState, draftModel: DraftModel): void {
  for (const { id, numTokens } of draftModel.orders ?? [])
    requests.get(id)?.speculation?.offered?.offer(draftModel.sequences.guessesOf(id), numTokens);
  draftModel.orders = null;
}

/** Who may be guessed for when `numAhead` tokens more of each are known. */
function candidatesOf({ running, draftModel }: SchedulerState, numAhead: 0 | 1): Candidate[] {
  const candidates: Candidate[] = [];
  for (const request of running) {
    const { id, speculation, isPaused, numSampling, numRemaining, numTokens, maxTokens, numGenerated } =
      request;
    const offered = speculation?.offered ?? null;
    if (speculation === null || offered === null || isPaused || numSampling !== numAhead) continue;
    if (numRemaining !== 1 || (numAhead === 0 && offered.isFor(numTokens))) continue;
    const most = Math.min(speculation.maxTokens, Limits.maxDrafts, maxTokens - numGenerated - numAhead - 1);
    if (most < 1) continue;
    const lag = draftModel?.sequences.lagOf(id, numTokens) ?? 0;
    const { isAdaptive } = speculation;
    candidates.push({ request, isAdaptive, most, lag, rate: speculation.rateOf(0) });
  }
  return candidates;
}

/** Those that insist on guesses get them; for the others it must pay. */
function chooseOrders(
  { running, costs, config }: SchedulerState,
  { economy }: DraftModel,
  candidates: readonly Candidate[],
): DraftOrder[] {
  const numSequences = running.filter((other) => !other.isPaused && other.numRemaining === 1).length;
  const adaptive = candidates.filter(({ isAdaptive }) => isAdaptive);
  const choice: DraftChoice = { numSequences, candidates: adaptive };
  const { numGuesses, isTrial } = economy.choose(choice, costs);
  const tried = isTrial ? adaptive.reduce((least, other) => (other.lag < least.lag ? other : least)) : null;
  const orders: DraftOrder[] = [];
  let numLeft = Math.min(Limits.maxStepDrafts, config.maxStepTokens - numSequences);
  for (const candidate of candidates) {
    const isPassedOver = tried !== null && candidate !== tried && candidate.isAdaptive;
    const wanted = candidate.isAdaptive ? (isPassedOver ? 0 : numGuesses) : candidate.most;
    const count = Math.min(wanted, candidate.most, numLeft);
    if (count < 1) continue;
    const { id, tokens, numTokens } = candidate.request;
    orders.push({ id, tokens, numTokens, numGuesses: count });
    numLeft -= count;
  }
  return orders;
}
