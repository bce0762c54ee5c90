import { Finish, RequestKind } from '../../../lib/native/abi';
import { minPlanWords } from '../../../lib/scheduler/intake';
import { Scheduler } from '../../../lib/scheduler/scheduler';
import type {
  EntryResult,
  PlanEntry,
  RequestId,
  ScheduledRequest,
  SchedulerConfig,
  SchedulerEvent,
  StepPlan,
} from '../../../lib/scheduler/types';

const LIMITS = {
  numPages: 64,
  maxRows: 8,
  maxStepTokens: 64,
  maxChunkTokens: 32,
  splitsInputs: true,
  contextLength: 512,
  maxQueuedRequests: 32,
  maxQueuedTokens: 4096,
  prefixCache: true,
  agingMs: 1000,
  maxPlanWords: 0,
  draftModel: null,
};
export const CONFIG: SchedulerConfig = { ...LIMITS, maxPlanWords: 2 * minPlanWords(LIMITS) };
export const REQUEST: Omit<ScheduledRequest, 'id' | 'promptTokens'> = {
  kind: RequestKind.generate,
  maxTokens: 64,
  priority: 0,
  deadline: null,
  salt: '',
  drafts: null,
};

export const id = (n: number): RequestId => n as RequestId;

/** `length` token ids; different seeds share no page. */
export const tokens = (length: number, seed = 0): Int32Array =>
  Int32Array.from({ length }, (_, i) => seed * 10_000 + i);

export interface Answer {
  readonly finish?: number;
  readonly token?: number;
  readonly further?: readonly number[];
}

/** A scheduler with the smallest possible engine: answers are made by the test, invariants checked at each turn. */
export class Driver {
  readonly core: Scheduler;
  readonly events: SchedulerEvent[] = [];
  readonly outstanding: StepPlan[] = [];

  constructor(config: Partial<SchedulerConfig> = {}) {
    const limits = { ...LIMITS, ...config };
    this.core = new Scheduler({ ...limits, maxPlanWords: config.maxPlanWords ?? 2 * minPlanWords(limits) });
  }

  add(
    n: number,
    promptTokens: Int32Array,
    options: Partial<Omit<ScheduledRequest, 'id' | 'promptTokens'>> = {},
  ): void {
    this.core.add({ ...REQUEST, id: id(n), promptTokens, ...options });
  }

  plan(): StepPlan | null {
    const plan = this.core.schedule();
    if (plan !== null) this.outstanding.push(plan);
    this.#turn();
    return plan;
  }

  /** A plan that must exist, with its entries by request. */
  planned(): Map<number, PlanEntry> {
    const plan = this.plan();
    if (plan === null) throw new Error('expected a plan, got null');
    return new Map(plan.entries.map((entry) => [entry.id, entry]));
  }

  /** Answers the oldest plan; each entry that samples gets token 7 unless `answer` says otherwise. */
  finish(answer: (entry: PlanEntry) => Answer = () => ({})): SchedulerEvent[] {
    const plan = this.outstanding.shift();
    if (plan === undefined) throw new Error('no plan is outstanding');
    const entries = plan.entries.map((entry): EntryResult => {
      const { token = entry.samples ? 7 : -1, further = [], finish = Finish.none } = answer(entry);
      return { row: entry.row, generation: entry.generation, token, further, finish };
    });
    this.core.apply({ step: plan.step, entries });
    return this.#turn();
  }

  /** One step at a time until nothing is left to do. */
  drain(answer?: (entry: PlanEntry) => Answer): void {
    for (let step = 0; step < 10_000; step += 1) {
      if (this.plan() === null && this.outstanding.length === 0) return;
      this.finish(answer);
    }
    throw new Error('the scheduler does not come to rest');
  }

  eventsOf(n: number): SchedulerEvent[] {
    return this.events.filter((event) => event.id === n);
  }

  last(n: number): SchedulerEvent | undefined {
    return this.eventsOf(n).at(-1);
  }

  #turn(): SchedulerEvent[] {
    this.core.checkInvariants();
    const events = this.core.takeEvents();
    this.events.push(...events);
    return events;
  }
}
