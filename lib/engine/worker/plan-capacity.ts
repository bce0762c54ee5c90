import { Admission, Entry, Limits, PageUpdate, PlanHeader } from '../../native/abi';
import type { DraftModelConfig, SchedulerConfig } from '../../scheduler/types';
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
): Omit<SchedulerConfig, 'draftModel'> {
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

/** Sequences a draft model knows at once: steps with more are busy enough without guesses. */
const MAX_DRAFT_ROWS = 16;
/** Long histories that a round of guesses may begin with. */
const DRAFT_HISTORIES = 4;

/** What a draft model needs beside a target of these settings: room for the sequences that it may be asked about. */
export function draftModelConfig(
  target: Pick<
    SchedulerConfig,
    'contextLength' | 'numPages' | 'maxRows' | 'maxStepTokens' | 'maxChunkTokens'
  >,
  draft: Pick<DraftModelConfig, 'contextLength' | 'vocabSize' | 'relativeCost'>,
): DraftModelConfig {
  const contextLength = Math.min(target.contextLength, draft.contextLength);
  const maxRows = Math.min(target.maxRows, MAX_DRAFT_ROWS);
  const pagesPerRow = Math.ceil(contextLength / Limits.pageSize);
  const historyWords = contextLength + pagesPerRow * PageUpdate.numWords;
  return {
    ...draft,
    contextLength,
    maxRows,
    numPages: Math.min(target.numPages, maxRows * pagesPerRow),
    // Sequences that catch up hold up everybody, as prompt chunks do.
    maxStepTokens: Math.max(16, target.maxChunkTokens),
    maxPlanWords:
      PlanHeader.numWords +
      Math.min(maxRows, DRAFT_HISTORIES) * historyWords +
      maxRows * (Admission.numWords + Entry.numWords),
  };
}

/**
 * Words of a plan buffer. The scheduler counts histories; stop tokens, biases and positions come on top, and a request
 * never asks for more positions than it has tokens.
 */
export function planCapacity(config: Pick<SchedulerConfig, 'maxPlanWords' | 'maxRows'>): number {
  return 2 * config.maxPlanWords + config.maxRows * (MAX_STOP_TOKENS + 2 * MAX_LOGIT_BIAS);
}
