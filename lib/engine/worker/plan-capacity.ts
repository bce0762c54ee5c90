import { Admission, Entry, Limits, PageUpdate, PlanHeader } from '../../native/abi';
import type { SchedulerConfig } from '../../scheduler/types';
import { MAX_LOGIT_BIAS, MAX_STOP_TOKENS } from '../limits';
import type { KvSizing } from './kv-sizing';
import type { LoadSettings } from './protocol';

/** A waiting request gains one priority level per this time: a hundred levels make up the widest gap in 16 minutes. */
const AGING_MS = 10_000;

/** Settings of a model's scheduler. Waiting prompts may hold as many tokens as the running requests could. */
export function schedulerConfig(
  settings: LoadSettings,
  sizing: KvSizing,
  splitsInputs: boolean,
): SchedulerConfig {
  const { contextLength, numPages } = sizing;
  // An input that is not split fits into a step by itself.
  const maxStepTokens = splitsInputs
    ? settings.maxStepTokens
    : Math.max(settings.maxStepTokens, contextLength);
  const maxRows = settings.maxConcurrency;
  const pagesPerRow = Math.ceil(contextLength / Limits.pageSize);
  return {
    numPages,
    maxRows,
    maxStepTokens,
    maxChunkTokens: settings.maxChunkTokens,
    splitsInputs,
    contextLength,
    maxQueuedRequests: settings.maxQueuedRequests,
    maxQueuedTokens: maxRows * contextLength,
    prefixCache: settings.prefixCache,
    agingMs: AGING_MS,
    // Always room for one whole history with its pages and for every row's records; usually for several histories.
    maxPlanWords:
      PlanHeader.numWords +
      2 * (contextLength + pagesPerRow * PageUpdate.numWords) +
      maxRows * (Admission.numWords + Entry.numWords + 2 * PageUpdate.numWords) +
      maxStepTokens * PageUpdate.numWords,
  };
}

/**
 * Words of a plan buffer. The scheduler counts histories; stop tokens, biases and positions come on top, and a request
 * never asks for more positions than it has tokens.
 */
export function planCapacity(config: SchedulerConfig): number {
  return 2 * config.maxPlanWords + config.maxRows * (MAX_STOP_TOKENS + 2 * MAX_LOGIT_BIAS);
}
