import { Admission, Entry, Limits, PageUpdate, PlanHeader } from '../../lib/native/abi';
import type { PlanEntry, SchedulerConfig, StepPlan } from '../../lib/scheduler/types';
import type { ShadowCache } from './shadow-cache';
import type { TrackedRequest } from './tracked-request';

/** What the rules may look at: the simulation's own records, never the scheduler's. */
export interface PlanContext {
  readonly config: SchedulerConfig;
  readonly live: ReadonlyMap<number, TrackedRequest>;
  /** Plans in flight, with the pages each touches and for whom. */
  readonly inFlight: readonly { readonly plan: StepPlan; readonly touched: ReadonlyMap<number, number> }[];
  readonly shadow: ShadowCache;
  readonly hasPreempted: boolean;
  /** Requests preempted while this plan was made, other than paused ones. */
  readonly preempted: ReadonlySet<number>;
}

export function demand(isTrue: boolean, rule: string, values: object = {}): void {
  if (!isTrue) throw new Error(`${rule} ${JSON.stringify(values)}`);
}

export function trackedOf({ live }: PlanContext, id: number): TrackedRequest {
  const tracked = live.get(id);
  if (tracked === undefined) throw new Error(`the plan names request ${id}, which is not live`);
  return tracked;
}

/** Rules about the plan as a whole, checked before the records are brought up to date. */
export function checkPlan(context: PlanContext, plan: StepPlan): void {
  const { config } = context;
  const numTokens = plan.entries.reduce((sum, { count }) => sum + count, 0);
  demand(plan.entries.length > 0, 'a plan computes something', { step: plan.step });
  demand(numTokens <= config.maxStepTokens, 'the step keeps its token budget', {
    numTokens,
    max: config.maxStepTokens,
  });
  const numHistoryWords = plan.admissions.reduce(
    (sum, { tokens }) => sum + Admission.numWords + tokens.length,
    0,
  );
  const numDrafted = plan.entries.reduce((sum, { drafts }) => sum + drafts.length, 0);
  const numWords =
    PlanHeader.numWords +
    numHistoryWords +
    numDrafted +
    plan.entries.length * Entry.numWords +
    plan.pageUpdates.length * PageUpdate.numWords;
  demand(numWords <= config.maxPlanWords, 'the plan fits its buffer', { numWords, max: config.maxPlanWords });
  demand(
    new Set(plan.entries.map(({ row }) => row)).size === plan.entries.length,
    'a row has one entry at most',
  );
  demand(
    plan.admissions.length === 0 || context.preempted.size === 0,
    'nobody is admitted after a preemption',
    {
      admitted: plan.admissions.map(({ id }) => id),
      preempted: [...context.preempted],
    },
  );
  demand(numDrafted <= Limits.maxStepDrafts, 'a step has so many guesses at most', { numDrafted });
  const isVerifying = [...context.live.values()].some((tracked) => tracked.numDrafted > 0);
  demand(!isVerifying, 'nothing is planned while guesses are in flight', { step: plan.step });
  const isDecodes =
    plan.admissions.length === 0 && plan.entries.every((e) => e.count - e.drafts.length === 1);
  demand(numDrafted === 0 || isDecodes, 'guesses go into steps of decodes', { step: plan.step });
  if (config.splitsInputs) checkDecodesFirst(context, plan);
  else checkWholeInputs(context, plan);
  checkAdmissionOrder(context, plan);
}

function checkWholeInputs(context: PlanContext, plan: StepPlan): void {
  for (const { id, start, count } of plan.entries) {
    const numTokens = trackedOf(context, id).request.promptTokens.length;
    demand(start === 0 && count === numTokens, 'an input is computed whole', { id, start, count, numTokens });
  }
}

/** Each running decode is in a step before any prompt chunk, and a chunk beside decodes is capped. */
function checkDecodesFirst(context: PlanContext, plan: StepPlan): void {
  const admitted = new Set<number>(plan.admissions.map(({ id }) => id));
  const isDecode = ({ id }: PlanEntry): boolean =>
    !admitted.has(id) && trackedOf(context, id).numRemaining === 1;
  const decodes = new Set<number>(plan.entries.filter(isDecode).map(({ id }) => id));
  if (decodes.size > 0) {
    const longest = Math.max(...plan.entries.map(({ count, drafts }) => count - drafts.length));
    const max = context.config.maxChunkTokens;
    demand(longest <= max, 'a chunk beside decodes is capped', { longest, max });
  }
  if (decodes.size === plan.entries.length) return;
  for (const tracked of context.live.values()) {
    const { phase, isPaused, numRemaining, numPlanned, request } = tracked;
    const needsPage = numPlanned % Limits.pageSize === 0;
    if (phase !== 'running' || isPaused || numRemaining !== 1 || needsPage) continue;
    demand(decodes.has(request.id), 'a decode comes before prompt chunks', {
      id: request.id,
      step: plan.step,
    });
  }
}

/** Also after it was preempted while this plan was made. */
const isInFlight = ({ inFlight }: PlanContext, { request }: TrackedRequest): boolean =>
  inFlight.some(({ plan }) => plan.entries.some(({ id }) => id === request.id));

/** Best rank first; a request may only be passed over while paused, or while another computes its beginning. */
function checkAdmissionOrder(context: PlanContext, plan: StepPlan): void {
  const admitted = new Set<number>();
  for (const { id } of plan.admissions) {
    const tracked = trackedOf(context, id);
    demand(tracked.phase === 'waiting' && !tracked.isPaused, 'who is admitted waits and is not paused', {
      id,
    });
    for (const other of context.live.values()) {
      const otherId = other.request.id;
      if (other.phase !== 'waiting' || other.isPaused || admitted.has(otherId) || !other.outranks(tracked))
        continue;
      const isHeldBack = [...context.live.values()].some(
        (runner) =>
          runner !== other &&
          (isInFlight(context, runner) || runner.phase === 'running' || admitted.has(runner.request.id)) &&
          runner.sharesPages(other, 1),
      );
      demand(isHeldBack && context.config.prefixCache, 'the best waiting request is admitted first', {
        id,
        otherId,
      });
    }
    admitted.add(id);
  }
}

/** Rules about one entry, with the page table of its request already brought up to date. */
export function checkEntry(
  context: PlanContext,
  plan: StepPlan,
  entry: PlanEntry,
  isAdmitted: boolean,
): void {
  const { id, start, count, row, generation, samples, drafts } = entry;
  const tracked = trackedOf(context, id);
  demand(tracked.phase === 'running', 'who is planned runs', { id, phase: tracked.phase });
  demand(!tracked.isPaused, 'a paused request is not planned', { id });
  demand(tracked.row === row && tracked.generation === generation, 'an entry names its row', {
    id,
    row,
    generation,
  });
  demand(start === tracked.numPlanned, 'entries of a request are contiguous', {
    id,
    start,
    planned: tracked.numPlanned,
  });
  const numKnown = count - drafts.length;
  demand(numKnown >= 1 && numKnown <= tracked.numRemaining, 'an entry computes what is wanted', {
    id,
    start,
    count,
  });
  const reachesEnd = start + numKnown === tracked.numHistory;
  if (drafts.length > 0) checkDrafts(tracked, entry);
  demand(samples === (reachesEnd && tracked.isGenerating), 'an entry samples at the end of the history', {
    id,
    start,
  });
  if (isAdmitted) checkPrefix(context, plan, tracked, start);
  for (let index = Math.floor(start / Limits.pageSize); index * Limits.pageSize < start + count; index += 1) {
    checkWrittenPage(context, tracked, tracked.pageTable[index]);
  }
}

/** Guesses follow what is known, and each could still become a token of the output. */
function checkDrafts(tracked: TrackedRequest, { id, start, count, samples, drafts }: PlanEntry): void {
  const { request, numSampling, numComputed, limit } = tracked;
  const most = Math.min(Limits.maxDrafts, request.drafts?.maxTokens ?? 0);
  demand(drafts.length <= most, 'a request has so many guesses at most', { id, num: drafts.length, most });
  demand(samples && numSampling === 0 && start === numComputed, 'guesses follow what is known', {
    id,
    start,
  });
  demand(start + count <= limit, 'a guess can become a token', { id, end: start + count, limit });
}

function checkPrefix(context: PlanContext, plan: StepPlan, tracked: TrackedRequest, start: number): void {
  const { id } = tracked.request;
  const numMatched = start / Limits.pageSize;
  demand(
    Number.isInteger(numMatched) && start < tracked.numHistory,
    'a prefix hit is whole pages, one token short',
    {
      id,
      start,
    },
  );
  demand(tracked.isGenerating || start === 0, 'an evaluation computes its whole prompt', { id, start });
  if (!context.config.prefixCache) demand(start === 0, 'no hits without a prefix cache', { id, start });
  else if (!context.hasPreempted) {
    const expected = context.shadow.numMatching(tracked);
    demand(numMatched === expected, 'a request finds what is cached', { id, numMatched, expected });
  }
  if (!context.config.prefixCache || (numMatched + 1) * Limits.pageSize >= tracked.numHistory) return;
  // Delay-one-step dedupe: nobody ahead of it computes its first missing page right now.
  const before = plan.entries.slice(
    0,
    plan.entries.findIndex((entry) => entry.id === id),
  );
  for (const entries of [before, ...context.inFlight.map((step) => step.plan.entries)]) {
    for (const other of entries) {
      const runner = context.live.get(other.id);
      if (runner === undefined || runner === tracked || runner.phase !== 'running') continue;
      const overlaps = other.start < (numMatched + 1) * Limits.pageSize && other.start + other.count > start;
      const isKnown = runner.numKnown >= (numMatched + 1) * Limits.pageSize;
      const isSame = overlaps && isKnown && runner.sharesPages(tracked, numMatched + 1);
      demand(!isSame, 'a page in the making is waited for', { id, page: numMatched, by: other.id });
    }
  }
}

/** Nobody else reads or writes a page that an entry writes, now or in a step in flight. */
function checkWrittenPage(context: PlanContext, tracked: TrackedRequest, page: number | undefined): void {
  const { id } = tracked.request;
  if (page === undefined) throw new Error(`request ${id} writes a position without a page`);
  for (const other of context.live.values()) {
    if (other === tracked || other.phase !== 'running') continue;
    demand(!other.pageTable.includes(page), 'a page being written has one owner', {
      id,
      page,
      other: other.request.id,
    });
  }
  for (const { plan, touched } of context.inFlight) {
    const by = touched.get(page);
    demand(by === undefined || by === id, 'a page is not reused before its fence', {
      id,
      page,
      by,
      step: plan.step,
    });
  }
}
