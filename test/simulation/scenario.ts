import { Admission, Entry, Limits, PageUpdate, PlanHeader, RequestKind } from '../../lib/native/abi';
import { minPlanWords } from '../../lib/scheduler/intake';
import type {
  DraftModelConfig,
  DraftSettings,
  RequestId,
  ScheduledRequest,
  SchedulerConfig,
} from '../../lib/scheduler/types';
import { type ModelRequest, soloRun, VOCABULARY } from './fake-model';
import { OracleDrafter } from './oracle-drafter';
import type { Random } from './random';

export type SimulatedRequest = ScheduledRequest & ModelRequest & { readonly id: RequestId };

/** How likely each thing is in one run. Each feature is absent from some runs, so that none hides another. */
export interface Scenario {
  readonly config: SchedulerConfig;
  readonly queueDepth: number;
  readonly numActions: number;
  readonly maxRequests: number;
  /** Requests that arrive before the first step. */
  readonly burst: number;
  readonly arrival: number;
  readonly abort: number;
  readonly pause: number;
  readonly stepFailure: number;
  readonly numericError: number;
  readonly deadline: number;
  readonly evaluation: number;
  /** Requests whose tokens are guessed. */
  readonly guessing: number;
  /** Share of those whose tokens the draft model guesses, if there is one. */
  readonly drafting: number;
  /** One guess of the draft model in this many is wrong. */
  readonly wrongEvery: number;
  readonly numSalts: number;
  readonly maxPriority: number;
  readonly maxPrompt: number;
  readonly maxOutput: number;
  /** Beginnings that prompts share. */
  readonly prefixes: readonly Int32Array[];
  /** Steps run when they are submitted instead of just before their result. */
  readonly runsEarly: boolean;
}

const NUM_PROMPT_TOKENS = 1000;
const someTokens = (random: Random, length: number): Int32Array =>
  Int32Array.from({ length }, () => random.int(0, NUM_PROMPT_TOKENS));
const sometimes = (random: Random, probability: number, value: number): number =>
  random.chance(probability) ? value : 0;

export function makeScenario(random: Random): Scenario {
  // Short prompts with long outputs in a small pool: what is admitted outgrows it.
  const isCrowded = random.chance(0.35);
  const maxPrompt = isCrowded ? 30 : random.pick([20, 50, 90, 150]);
  const maxOutput = isCrowded ? 90 : random.pick([4, 20, 50]);
  const maxRows = random.int(isCrowded ? 3 : 1, 8);
  const maxStepTokens = random.pick([1, 7, 16, 33, 64, 256]);
  const contextLength = random.int(isCrowded ? 80 : 24, maxPrompt + maxOutput + 20);
  const perRequest = Math.ceil(contextLength / 16);
  const limits = {
    // From a pool that holds hardly one request to one that holds all.
    numPages: Math.max(2, Math.floor(perRequest * random.pick(isCrowded ? [1, 1.5, 2] : [0.7, 1, 2, 3, 10]))),
    maxRows,
    maxStepTokens,
    maxChunkTokens: random.int(1, maxStepTokens),
    contextLength,
    maxQueuedRequests: random.pick([1, 4, 30]),
    maxQueuedTokens: random.pick([60, 300, 5_000]),
    prefixCache: random.chance(0.8),
    agingMs: random.pick([1, 20, 1_000]),
  };
  const numSpareWords = sometimes(random, 0.7, random.int(0, 400));
  return withEncoder(random, {
    config: {
      ...limits,
      splitsInputs: true,
      maxPlanWords: minPlanWords(limits) + numSpareWords,
      draftModel: random.chance(0.4) ? makeDraftModel(random, limits) : null,
    },
    queueDepth: random.pick([1, 1, 1, 2, 2, 2, 2, 3, Limits.queueDepth, Limits.queueDepth]),
    numActions: random.int(60, 260),
    maxRequests: random.int(2, 30),
    burst: isCrowded || random.chance(0.4) ? random.int(2, 10) : 0,
    arrival: random.pick([0.05, 0.2, 0.5]),
    abort: sometimes(random, 0.6, 0.06),
    pause: sometimes(random, 0.4, 0.12),
    stepFailure: sometimes(random, 0.25, 0.03),
    numericError: sometimes(random, 0.25, 0.01),
    deadline: sometimes(random, 0.35, 0.4),
    evaluation: sometimes(random, 0.4, 0.25),
    guessing: random.pick([0, 0, 0.5, 1]),
    drafting: random.pick([0.5, 1]),
    wrongEvery: random.pick([1, 2, 6, 1 << 20]),
    numSalts: random.pick([1, 1, 3]),
    maxPriority: random.pick([0, 2]),
    maxPrompt,
    maxOutput,
    prefixes: Array.from({ length: random.int(1, 3) }, () => someTokens(random, random.int(0, maxPrompt))),
    runsEarly: random.chance(0.5),
  });
}

/** From a pool and a plan that hold hardly one sequence to those that hold all. */
function makeDraftModel(
  random: Random,
  { contextLength, maxRows }: Pick<SchedulerConfig, 'contextLength' | 'maxRows'>,
): DraftModelConfig {
  const context = random.chance(0.3) ? random.int(8, contextLength) : contextLength;
  const perRow = Math.ceil(context / Limits.pageSize);
  const wordsPerRow = Admission.numWords + Entry.numWords + context + perRow * PageUpdate.numWords;
  return {
    contextLength: context,
    maxRows: random.int(1, maxRows),
    numPages: Math.ceil(perRow * random.pick([1, 1.5, 3, 10])),
    maxStepTokens: random.pick([1, 5, 16, 256]),
    maxPlanWords: PlanHeader.numWords + wordsPerRow * random.pick([1, 2, 10]),
    vocabSize: random.chance(0.2) ? VOCABULARY - (VOCABULARY >> 4) : VOCABULARY + 1,
    relativeCost: random.pick([0.05, 0.3, 1]),
  };
}

/** Some runs are of an encoder: every request is an evaluation that a step computes whole. */
function withEncoder(random: Random, scenario: Scenario): Scenario {
  if (!random.chance(0.15)) return scenario;
  const { config } = scenario;
  const maxStepTokens = Math.max(config.maxStepTokens, config.contextLength + random.int(0, 60));
  const limits = { ...config, maxStepTokens, splitsInputs: false };
  const maxPlanWords = Math.max(config.maxPlanWords, minPlanWords(limits));
  return { ...scenario, evaluation: 1, config: { ...limits, maxPlanWords } };
}

function kindOf(random: Random, { config }: Scenario, isEvaluation: boolean): number {
  if (!config.splitsInputs) return RequestKind.pool;
  return isEvaluation ? random.pick([RequestKind.logits, RequestKind.score]) : RequestKind.generate;
}

export function makeRequest(random: Random, scenario: Scenario, id: number, now: number): SimulatedRequest {
  const isEvaluation = random.chance(scenario.evaluation);
  // Half of the prompts go on differently after a shared beginning; some are the beginning itself, cut somewhere.
  const prefix = random.chance(0.8) ? random.pick(scenario.prefixes) : new Int32Array(0);
  const shared = random.chance(0.5) ? prefix : prefix.subarray(0, random.int(0, prefix.length));
  const own = someTokens(random, shared.length > 0 && random.chance(0.3) ? 0 : random.int(1, 24));
  const promptTokens = Int32Array.from([...shared, ...own]);
  // A single other token near the beginning: the pages after it hold the same tokens and other values.
  if (random.chance(0.15)) promptTokens[random.int(0, promptTokens.length - 1)] = NUM_PROMPT_TOKENS + 1;
  const request = {
    id: id as RequestId,
    kind: kindOf(random, scenario, isEvaluation),
    promptTokens,
    maxTokens: isEvaluation ? 0 : random.int(1, scenario.maxOutput),
    priority: random.int(-scenario.maxPriority, scenario.maxPriority),
    deadline: random.chance(scenario.deadline) ? now + random.int(0, 300) : null,
    salt: String.fromCharCode(97 + random.int(1, scenario.numSalts)),
    stops: random.chance(0.5),
    drafts: null,
  };
  const isGuessed = random.chance(scenario.guessing) && request.kind === RequestKind.generate;
  if (!isGuessed) return request;
  const drafts = makeDrafts(random, request);
  const usesModel = scenario.config.draftModel !== null && random.chance(scenario.drafting);
  return { ...request, drafts: usesModel ? { ...drafts, drafter: null } : drafts };
}

function makeDrafts(random: Random, request: ModelRequest): DraftSettings {
  const { promptTokens, maxTokens } = request;
  const solo = soloRun(request, maxTokens);
  return {
    drafter: new OracleDrafter(promptTokens, solo, random.int(0, 1 << 20), random.pick([1, 2, 6, 1 << 20])),
    maxTokens: random.pick([1, 3, 8, 16]),
    isAdaptive: random.chance(0.3),
  };
}
