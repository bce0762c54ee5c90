import { AutoglmError } from '../errors';
import { Admission, Entry, Limits, PageUpdate, PlanHeader, RequestKind } from '../native/abi';
import { numPositions, pagesFor, RequestState } from './request-state';
import type { SchedulerState } from './scheduler-state';
import { Speculation } from './speculation/speculation';
import type { DraftSettings, ScheduledRequest, SchedulerConfig } from './types';

/** Refuses settings with which some accepted request could never run. */
export function checkConfig(config: SchedulerConfig): void {
  const positive = [
    'numPages',
    'maxRows',
    'maxStepTokens',
    'maxChunkTokens',
    'contextLength',
    'agingMs',
  ] as const;
  for (const name of positive) {
    if (config[name] >= 1) continue;
    throw new AutoglmError('invalid_parameter', `expected ${name} to be at least 1, got ${config[name]}`);
  }
  if (!config.splitsInputs && config.maxStepTokens < config.contextLength) {
    const expected = `at least ${config.contextLength}, the longest input, which is not split`;
    throw new AutoglmError(
      'invalid_parameter',
      `expected maxStepTokens to be ${expected}, got ${config.maxStepTokens}`,
    );
  }
  const minimum = minPlanWords(config);
  if (config.maxPlanWords >= minimum) return;
  throw new AutoglmError(
    'invalid_parameter',
    `expected maxPlanWords to be at least ${minimum}: one history of ${config.contextLength} tokens beside the entries ` +
      `of ${config.maxRows} rows; got ${config.maxPlanWords}`,
  );
}

/** Words of a step in which every row runs, and one request is admitted with the longest history or all guess. */
export function minPlanWords({
  contextLength,
  maxRows,
  maxStepTokens,
}: Pick<SchedulerConfig, 'contextLength' | 'maxRows' | 'maxStepTokens'>): number {
  const numPageUpdates = pagesFor(contextLength) + pagesFor(maxStepTokens) + 2 * maxRows;
  const numFixed = PlanHeader.numWords + Math.max(Admission.numWords + contextLength, Limits.maxStepDrafts);
  return numFixed + maxRows * Entry.numWords + numPageUpdates * PageUpdate.numWords;
}

/** Queues a request, or throws when it is wrong, can never fit, or finds the queue full. */
export function takeIn(state: SchedulerState, request: ScheduledRequest): void {
  const maxTokens = checkRequest(state, request);
  checkQueue(state, request);
  const { drafts } = request;
  const added = new RequestState(request, {
    maxTokens,
    rank: state.now - request.priority * state.config.agingMs,
    arrival: state.numArrivals,
    sharesPrefix: state.config.prefixCache && request.kind === RequestKind.generate,
    speculation: drafts === null ? null : speculationOf(state, drafts),
  });
  state.numArrivals += 1;
  state.requests.set(added.id, added);
  if (added.deadline !== null) state.numDeadlines += 1;
  if (added.speculation !== null) state.numSpeculating += 1;
  state.waiting.insert(added);
}

function speculationOf({ draftModel }: SchedulerState, drafts: DraftSettings): Speculation {
  if (drafts.drafter !== null) return new Speculation(drafts);
  if (draftModel === null)
    throw new AutoglmError('internal', 'a request is to be guessed for, but there is no draft model');
  return new Speculation(drafts, draftModel.economy.rate);
}

/** Returns the output tokens that the request may have. */
function checkRequest({ config, requests }: SchedulerState, request: ScheduledRequest): number {
  const { promptTokens, maxTokens } = request;
  if (requests.has(request.id)) throw new AutoglmError('internal', `request ${request.id} was added twice`);
  if (promptTokens.length === 0)
    throw new AutoglmError('invalid_parameter', 'expected a prompt of tokens, got none');
  const isGenerating = request.kind === RequestKind.generate;
  if (isGenerating && maxTokens < 1) {
    throw new AutoglmError('invalid_parameter', `expected maxTokens to be at least 1, got ${maxTokens}`);
  }
  const maxPrompt = config.contextLength - (isGenerating ? 1 : 0);
  if (promptTokens.length > maxPrompt) {
    throw new AutoglmError(
      'context_length_exceeded',
      `expected at most ${maxPrompt} prompt tokens in a context of ${config.contextLength}, got ${promptTokens.length}`,
      {
        hint: 'Shorten the prompt or load the model with a larger contextLength.',
        details: { promptTokens: promptTokens.length, contextLength: config.contextLength },
      },
    );
  }
  const allowed = isGenerating ? Math.min(maxTokens, config.contextLength - promptTokens.length) : 0;
  const numPages = pagesFor(numPositions(promptTokens.length, allowed));
  if (numPages > config.numPages) {
    throw new AutoglmError(
      'kv_exhausted',
      `${promptTokens.length} prompt tokens and ${allowed} output tokens need ${numPages} KV pages of ` +
        `${Limits.pageSize} tokens, the pool has ${config.numPages}`,
      {
        hint: 'Lower maxTokens, shorten the prompt, or load the model with more kvCache.memory.',
        details: {
          promptTokens: promptTokens.length,
          maxTokens: allowed,
          neededPages: numPages,
          numPages: config.numPages,
        },
        retryable: false, // it would not fit into an empty pool either
      },
    );
  }
  return allowed;
}

/**
 * A request that a free row will take does not count against the queue, and one alone in it is accepted at any length:
 * otherwise the answer would depend on how many arrive before the next step.
 */
function checkQueue(state: SchedulerState, request: ScheduledRequest): void {
  const { config, waiting, rows } = state;
  const numQueuedTokens = waiting.numTokens;
  const isFull = waiting.length >= config.maxQueuedRequests + rows.numFree;
  const isLong = waiting.length > 0 && numQueuedTokens + request.promptTokens.length > config.maxQueuedTokens;
  if (!isFull && !isLong) return;
  const retryAfterMs = state.throughput.retryAfterMs(numQueuedTokens);
  throw new AutoglmError(
    'queue_full',
    isFull
      ? `${waiting.length} requests wait already, at most ${config.maxQueuedRequests} may`
      : `${numQueuedTokens} prompt tokens wait already, with ${request.promptTokens.length} more there would be over ` +
          `${config.maxQueuedTokens}`,
    {
      hint: `Try again in ${Math.ceil(retryAfterMs / 1000)} s.`,
      details: {
        numQueuedRequests: waiting.length,
        maxQueuedRequests: config.maxQueuedRequests,
        numQueuedTokens,
        maxQueuedTokens: config.maxQueuedTokens,
        retryAfterMs,
      },
    },
  );
}
