import { Limits } from '../../lib/native/abi';
import type {
  PlanEntry,
  SchedulerConfig,
  SchedulerCore,
  StepPlan,
  StepResult,
} from '../../lib/scheduler/types';
import { DraftLane } from './draft-lane';
import { checkEvents } from './event-rules';
import { FakeEngine } from './fake-model';
import { checkIntake } from './intake-rules';
import { checkEntry, checkPlan, demand, type PlanContext, trackedOf } from './plan-rules';
import { Random } from './random';
import { makeRequest, makeScenario, type Scenario, type SimulatedRequest } from './scenario';
import { ShadowCache } from './shadow-cache';
import { TrackedRequest } from './tracked-request';

export type CreateScheduler = (config: SchedulerConfig) => SchedulerCore;

/** How often each thing happened, to prove that a run is not idle. */
export type Coverage = Map<string, number>;

interface InFlight {
  readonly plan: StepPlan;
  readonly touched: ReadonlyMap<number, number>;
  /** Set once the engine has run the step. */
  result: StepResult | null;
}

/** After this many turns per token without an end, a request is taken to wait for ever. */
const MAX_TURNS_PER_TOKEN = 40;

/**
 * One seeded run: random commands, steps and results against the real scheduler and the fake engine. Every rule is
 * checked as soon as it can be; the first violation throws.
 */
export class Simulation {
  readonly coverage: Coverage = new Map();
  readonly live = new Map<number, TrackedRequest>();
  readonly scenario: Scenario;
  readonly core: SchedulerCore;
  readonly random: Random;
  readonly engine: FakeEngine;
  readonly inFlight: InFlight[] = [];
  readonly shadow = new ShadowCache();
  readonly drafts: DraftLane | null;
  readonly #requests = new Map<number, SimulatedRequest>();
  readonly #generations = new Set<string>();
  readonly #preempted = new Set<number>();
  /** Requests that the draft model has guessed for. */
  readonly #drafted = new Set<number>();
  hasPreempted = false;
  numArrivals = 0;
  appliedStep = 0;

  constructor(seed: number, create: CreateScheduler) {
    this.random = new Random(seed);
    this.scenario = makeScenario(this.random);
    this.core = create(this.scenario.config);
    const requestOf = (id: number): SimulatedRequest => {
      const request = this.#requests.get(id);
      if (request === undefined) throw new Error(`the engine runs an unknown request ${id}`);
      return request;
    };
    const { config, wrongEvery } = this.scenario;
    this.engine = new FakeEngine(config.numPages, requestOf);
    this.drafts =
      config.draftModel === null
        ? null
        : new DraftLane(config.draftModel, requestOf, this.random.int(0, 1 << 20), wrongEvery);
  }

  /** Throws on the first broken rule. `maxActions` cuts a run short, to find the shortest one that fails. */
  run(maxActions = Number.POSITIVE_INFINITY): void {
    const numActions = Math.min(this.scenario.numActions, maxActions);
    for (let i = 0; i < this.scenario.burst; i += 1) this.#add();
    for (let action = 0; action < numActions; action += 1) {
      this.#act();
      if (this.live.size === 0 && this.numArrivals >= this.scenario.maxRequests) break;
    }
    this.#drain();
    this.#checkEmpty();
  }

  count(what: string): void {
    this.coverage.set(what, (this.coverage.get(what) ?? 0) + 1);
  }

  #act(): void {
    const { scenario, random, core } = this;
    core.now += random.int(0, 4);
    if (this.numArrivals < scenario.maxRequests && random.chance(scenario.arrival)) this.#add();
    if (random.chance(scenario.abort)) this.#abort();
    if (random.chance(scenario.pause)) this.#pauseOrResume();
    const canPlan = this.inFlight.length < scenario.queueDepth;
    if (this.inFlight.length === Limits.queueDepth)
      demand(core.schedule() === null, 'no more steps are planned than there are slots');
    if (canPlan && random.chance(0.7)) this.#plan();
    else if (this.inFlight.length > 0) this.#finishStep();
    else this.#plan();
  }

  #drain(): void {
    const numTokens = [...this.live.values()].reduce(
      (sum, { request }) => sum + request.promptTokens.length + request.maxTokens,
      0,
    );
    for (const [id, tracked] of this.live) {
      if (tracked.isPaused) this.core.resume(id as never);
      tracked.isPaused = false;
    }
    const maxTurns = 100 + MAX_TURNS_PER_TOKEN * numTokens;
    for (let turn = 0; this.live.size > 0 || this.inFlight.length > 0; turn += 1) {
      demand(turn < maxTurns, 'every request ends within bounded time', {
        turn,
        live: [...this.live.keys()],
      });
      if (this.inFlight.length < this.scenario.queueDepth) this.#plan();
      if (this.inFlight.length > 0) this.#finishStep();
    }
  }

  #checkEmpty(): void {
    const { numRunning, numWaiting, numFreePages, numCachedPages, numPages, numQueuedTokens } =
      this.core.stats();
    demand(numRunning === 0 && numWaiting === 0 && numQueuedTokens === 0, 'nothing is left', {
      numRunning,
      numWaiting,
    });
    demand(numFreePages + numCachedPages === numPages, 'every page came back', {
      numFreePages,
      numCachedPages,
      numPages,
    });
    demand(this.core.schedule() === null && this.core.nextWakeup() === null, 'an empty scheduler rests');
  }

  #add(): void {
    const id = this.numArrivals;
    const request = makeRequest(this.random, this.scenario, id, this.core.now);
    this.numArrivals += 1;
    const { contextLength, agingMs } = this.scenario.config;
    const expected = checkIntake(this, request);
    let code: string | null = null;
    try {
      this.core.add(request);
    } catch (error) {
      code = (error as { code?: string }).code ?? String(error);
    }
    demand(code === expected, 'a request is accepted or refused by arithmetic', { id, code, expected });
    this.count(code ?? 'added');
    if (code === null) {
      this.#requests.set(id, request);
      this.drafts?.know(id, request.salt);
      this.live.set(id, new TrackedRequest(request, contextLength, agingMs, this.core.now, id));
    }
    this.#settle(null);
  }

  /** Any request, also one that has ended or never was; often one that was preempted with a step in flight. */
  #someId(): number {
    const draining = [...this.live.values()].filter(
      ({ phase, lastStep }) => phase === 'waiting' && lastStep > this.appliedStep,
    );
    if (draining.length > 0 && this.random.chance(0.5)) return this.random.pick(draining).request.id;
    return this.random.int(0, this.numArrivals);
  }

  #abort(): void {
    const id = this.#someId();
    const tracked = this.live.get(id);
    this.core.abort(id as never);
    if (tracked !== undefined) {
      if (this.inFlight[0]?.plan.isDraft) this.count('abort beside a draft step');
      const isInFlight = tracked.lastStep > this.appliedStep;
      const part = tracked.numReceived > 0 ? 'decode' : 'prefill';
      if (tracked.numDrafted > 0) this.count('abort with guesses in flight');
      this.count(`abort ${tracked.phase} ${isInFlight ? 'in flight' : 'at rest'} ${part}`);
    }
    const aborted = this.#settle(null).filter(({ type }) => type === 'aborted');
    demand(aborted.length === (tracked === undefined ? 0 : 1), 'an abort takes effect at once', {
      id,
      aborted,
    });
    demand(!this.live.has(id), 'an aborted request has ended', { id });
  }

  #pauseOrResume(): void {
    const id = this.#someId();
    const tracked = this.live.get(id);
    const resumes = tracked?.isPaused ?? this.random.chance(0.5);
    if (resumes) this.core.resume(id as never);
    else this.core.pause(id as never);
    if (tracked !== undefined) {
      tracked.isPaused = !resumes;
      this.count(resumes ? 'resume' : `pause ${tracked.phase}`);
    }
    this.#settle(null);
  }

  #plan(): void {
    const plan = this.core.schedule();
    this.core.checkInvariants();
    this.#preempted.clear();
    const events = this.core.takeEvents();
    for (const event of events) {
      if (event.type !== 'preempted') continue;
      this.hasPreempted = true;
      const tracked = this.live.get(event.id);
      this.count(tracked?.isPaused ? 'preempt paused' : 'preempt');
      if (tracked?.isPaused === false) {
        this.#preempted.add(event.id);
        const isOutranked = [...this.live.values()].some(
          (other) => other.phase === 'running' && !other.isPaused && other.outranks(tracked),
        );
        demand(isOutranked, 'nobody gives way to those they outrank', { id: event.id });
      }
      if ((tracked?.lastStep ?? 0) > this.appliedStep) this.count('preempt in flight');
    }
    checkEvents(
      this,
      events.filter(({ type }) => type !== 'started'),
      null,
    );
    if (plan === null) this.#checkRest();
    else if (plan.isDraft) this.#takeDraft(plan);
    else this.#take(plan);
    checkEvents(
      this,
      events.filter(({ type }) => type === 'started'),
      plan,
    );
    this.#checkDeadlines();
    this.#checkStats();
    for (const { type, id } of events) if (type === 'preempted' && this.random.chance(0.5)) this.#resume(id);
  }

  /** Its reader came back while the step that was to end its stay is still in flight. */
  #resume(id: number): void {
    const tracked = this.live.get(id);
    if (tracked?.isPaused !== true) return;
    this.core.resume(id as never);
    tracked.isPaused = false;
  }

  #takeDraft(plan: StepPlan): void {
    demand(this.inFlight.length === 0, 'a draft step is alone in flight', { step: plan.step });
    this.drafts?.take(plan, this.live);
    this.inFlight.push({ plan, touched: new Map(), result: null });
    this.count(plan.entries.length > 1 ? 'draft batch' : 'draft step');
    const readmitted = plan.admissions.filter(({ id }) => this.#drafted.has(id));
    const isWhole = plan.entries.some(({ id, start }) => start === 0 && readmitted.some((a) => a.id === id));
    if (isWhole) this.count('draft sequence starts over');
    for (const { id } of plan.admissions) this.#drafted.add(id);
    if (plan.entries.some(({ samples }) => !samples)) this.count('draft catches up');
  }

  #take(plan: StepPlan): void {
    const context = this.#context();
    checkPlan(context, plan);
    const admitted = new Set<number>();
    for (const { id, row, generation, tokens } of plan.admissions) {
      const tracked = trackedOf(context, id);
      const key = `${row}/${generation}`;
      demand(!this.#generations.has(key), 'a row never has a generation twice', { id, row, generation });
      this.#generations.add(key);
      const history = tracked.history();
      const isWhole = tokens.length === history.length && history.every((token, i) => tokens[i] === token);
      demand(isWhole, 'an admission carries prompt and output', {
        id,
        got: tokens.length,
        expected: history.length,
      });
      Object.assign(tracked, { phase: 'running', row, generation, pageTable: [] });
      const start = plan.entries.find((entry) => entry.id === id)?.start ?? -1;
      demand(start >= 0, 'who is admitted computes something', { id });
      Object.assign(tracked, {
        numPlanned: start,
        numComputed: start,
        numPublished: start / Limits.pageSize,
      });
      admitted.add(id);
      this.count(tracked.hasStarted ? 'readmitted' : 'admitted');
      if (start > 0) this.count(tracked.hasStarted ? 'resumed on cached pages' : 'prefix hit');
    }
    this.#mapPages(plan);
    for (const entry of plan.entries) {
      const tracked = trackedOf(context, entry.id);
      checkEntry(context, plan, entry, admitted.has(entry.id));
      tracked.numDrafted = entry.drafts.length;
      tracked.numPlanned = entry.start + entry.count - entry.drafts.length;
      tracked.lastStep = plan.step;
      if (entry.drafts.length > 0 && tracked.request.drafts?.drafter === null)
        this.drafts?.checkGuesses(tracked, tracked.history(), entry.drafts);
      if (entry.samples) tracked.numSampling += 1;
    }
    const touched = new Map<number, number>();
    for (const { id } of plan.entries)
      for (const page of trackedOf(context, id).pageTable) touched.set(page, id);
    this.inFlight.push({ plan, touched, result: null });
    if (this.scenario.runsEarly) this.#execute(this.inFlight.at(-1));
    this.count(['plan', 'plan ahead'][this.inFlight.length - 1] ?? 'plan far ahead');
    if (plan.entries.length > 1) this.count('batch');
  }

  #mapPages(plan: StepPlan): void {
    const owner = new Map(
      [...this.live.values()].filter(({ phase }) => phase === 'running').map((t) => [t.row, t]),
    );
    for (const { row, index, page } of plan.pageUpdates) {
      const tracked = owner.get(row);
      if (tracked === undefined) throw new Error(`page update for row ${row}, which runs nothing`);
      tracked.pageTable[index] = page;
      const start = plan.entries.find((entry) => entry.row === row)?.start ?? 0;
      if (index < Math.floor(start / Limits.pageSize) || !this.shadow.handOut(page) || this.hasPreempted)
        continue;
      const { numFreePages } = this.core.stats();
      demand(numFreePages === 0, 'a cached page is evicted only when no page is free', {
        page,
        numFreePages,
      });
      this.count('evicted');
    }
  }

  #finishStep(): void {
    const step = this.inFlight[0] as InFlight;
    if (step.plan.isDraft) {
      this.#finishDraft(step.plan);
      return;
    }
    const hasPreempted = step.plan.entries.some(({ id }) => this.live.get(id)?.phase === 'waiting');
    if (this.random.chance(this.scenario.stepFailure * (hasPreempted ? 10 : 1))) this.#failStep(step);
    else {
      this.#execute(step);
      this.#applyStep(step.plan, step.result as StepResult);
    }
    this.core.checkInvariants();
    this.#checkStats();
  }

  #finishDraft(plan: StepPlan): void {
    const { drafts, random, scenario } = this;
    if (drafts === null) throw new Error('a draft step without a draft model');
    this.inFlight.shift();
    if (random.chance(scenario.stepFailure)) {
      this.count('draft step failed');
      drafts.engine.skip(plan);
      this.core.applyFailure(plan.step, 'injected');
    } else {
      const result = drafts.engine.execute(plan, () => random.chance(scenario.numericError));
      drafts.finish(plan, result);
      this.core.apply(result);
    }
    const events = this.#settle(null);
    demand(events.length === 0, 'nobody hears of draft steps', { events });
  }

  #execute(step: InFlight | undefined): void {
    const breaks = () => this.random.chance(this.scenario.numericError);
    for (const earlier of this.inFlight) {
      earlier.result ??= this.engine.execute(earlier.plan, breaks);
      if (earlier === step) return;
    }
  }

  #applyStep(plan: StepPlan, result: StepResult): void {
    this.inFlight.shift();
    this.appliedStep = plan.step;
    plan.entries.forEach((entry, i) => {
      const tracked = this.#stillRuns(entry);
      if (tracked === undefined) return;
      const found = result.entries[i];
      if (found?.finish === 3) tracked.mayFail = 'numeric_error';
      else {
        tracked.computed(entry, found?.further.length ?? 0);
        if (this.scenario.config.prefixCache) this.shadow.publish(tracked);
      }
    });
    this.core.apply(result);
    this.#settle(plan, result);
  }

  #failStep({ plan, result }: InFlight): void {
    this.inFlight.shift();
    this.appliedStep = plan.step;
    this.count(result === null ? 'step failed before it ran' : 'step failed after it ran');
    if (result === null) this.engine.skip(plan);
    for (const entry of plan.entries) {
      const tracked = this.#stillRuns(entry);
      if (tracked !== undefined) tracked.mayFail = 'engine_failed';
    }
    this.core.applyFailure(plan.step, 'injected');
    this.#settle(null);
    for (const { id } of plan.entries) demand(!this.live.has(id), 'a failed step ends its requests', { id });
  }

  #stillRuns(entry: PlanEntry): TrackedRequest | undefined {
    const tracked = this.live.get(entry.id);
    return tracked?.generation === entry.generation && tracked.request.id === entry.id ? tracked : undefined;
  }

  #settle(plan: StepPlan | null, result: StepResult | null = null) {
    this.core.checkInvariants();
    const events = this.core.takeEvents();
    checkEvents(this, events, plan, result);
    return events;
  }

  /** `schedule` returned null: whoever could go on without a result or a command has been forgotten. */
  #checkRest(): void {
    if (this.inFlight[0]?.plan.isDraft) return;
    const waitsForGuesses = [...this.live.values()].some((t) => t.numDrafted > 0 || t.mayGuess);
    if (waitsForGuesses && this.inFlight.length > 0) {
      this.count('rest for guesses');
      return;
    }
    for (const { request, isPaused, phase, numRemaining, numPlanned } of this.live.values()) {
      if (isPaused || this.inFlight.length > 1) continue; // a third step is planned where it pays, no more
      const { id } = request;
      demand(this.inFlight.length > 0, 'work that can run is planned', { id, phase });
      const numLeftInPage = (Limits.pageSize - (numPlanned % Limits.pageSize)) % Limits.pageSize;
      const canRun = phase === 'running' && numRemaining > 0 && numRemaining <= numLeftInPage;
      demand(!canRun, 'the queue is kept full', { id, numRemaining });
    }
    this.count('rest');
  }

  #checkDeadlines(): void {
    let earliest: number | null = null;
    for (const { request } of this.live.values()) {
      if (request.deadline === null) continue;
      demand(this.core.now < request.deadline, 'a passed deadline ends the request', { id: request.id });
      earliest = Math.min(earliest ?? request.deadline, request.deadline);
    }
    const wakeup = this.core.nextWakeup();
    demand(wakeup === earliest, 'the next wake-up is the earliest deadline', { wakeup, earliest });
  }

  #checkStats(): void {
    const { numRunning, numWaiting, numQueuedTokens } = this.core.stats();
    const waiting = [...this.live.values()].filter(({ phase }) => phase === 'waiting');
    const expected = {
      numRunning: this.live.size - waiting.length,
      numWaiting: waiting.length,
      numQueuedTokens: waiting.reduce((sum, t) => sum + t.numKnown, 0),
    };
    const found = { numRunning, numWaiting, numQueuedTokens };
    demand(JSON.stringify(found) === JSON.stringify(expected), 'the counts are right', { found, expected });
  }

  #context(): PlanContext {
    const { scenario, live, inFlight, shadow, hasPreempted } = this;
    return { config: scenario.config, live, inFlight, shadow, hasPreempted, preempted: this.#preempted };
  }
}
