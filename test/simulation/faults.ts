import type { Patch } from './patched-modules';

/** A mistake someone could make in the scheduler. The simulation must notice each of them. */
export interface Fault {
  readonly name: string;
  readonly patches: readonly Patch[];
}

const fault = (name: string, file: string, find: string, replace: string): Fault => ({
  name,
  patches: [{ file, find, replace }],
});

const PAGE_FAULTS: readonly Fault[] = [
  fault('a page is never freed', 'pages/page-pool.ts', 'if (owners > 1) return;', 'if (owners >= 1) return;'),
  fault(
    'a shared page is released for all owners at once',
    'scheduler-state.ts',
    'this.pool.release(page);',
    'while (this.pool.refCount(page) > 0) this.pool.release(page);',
  ),
  fault(
    'an evicted page can still be found',
    'pages/page-pool.ts',
    'this.#pageOfKey.delete(this.#keys[page] as PageKey);\n      this.#keys[page] = null;',
    '',
  ),
  fault(
    'an evicted page stays in the index',
    'pages/page-pool.ts',
    'this.#pageOfKey.delete(this.#keys[page] as PageKey);',
    '',
  ),
  fault(
    'a page found again stays in the idle list and is evicted while owned',
    'pages/page-pool.ts',
    'cannot be shared`);\n      this.#unlink(page);',
    'cannot be shared`);',
  ),
  fault('sharing a page forgets its owners', 'pages/page-pool.ts', '= owners + 1;', '= 1;'),
  fault(
    'cached pages are evicted before free ones are used',
    'pages/page-pool.ts',
    'if (this.#numFree > 0) {',
    'if (this.#numFree > 0 && this.#numCached === 0) {',
  ),
  fault(
    'a second page with the same content takes the key',
    'pages/page-pool.ts',
    'if (this.#keys[page] !== null || this.#pageOfKey.has(key)) return;',
    'if (this.#keys[page] !== null) return;',
  ),
  fault(
    'a released page is free and cached',
    'pages/page-pool.ts',
    'if (this.#keys[page] === null) {\n      this.#freeStack',
    'if (owners === 1) {\n      this.#freeStack',
  ),
  fault('the salt is ignored', 'pages/page-keys.ts', "hash('sha256', salt,", "hash('sha256', '',"),
  fault(
    'a key ignores the pages before',
    'pages/page-keys.ts',
    "link.write(parent, 'latin1')",
    'link.fill(0, 0, 32)',
  ),
  fault(
    'a key ignores the last token of its page',
    'pages/page-keys.ts',
    'i < Limits.pageSize;',
    'i < Limits.pageSize - 1;',
  ),
  fault('a key ignores the first token of its page', 'pages/page-keys.ts', 'let i = 0;', 'let i = 1;'),
  fault('each key is made of the first page', 'pages/page-keys.ts', 'tokens[start + i]', 'tokens[i]'),
  fault(
    'a prefix hit may leave no token to compute',
    'pages/prefix-cache.ts',
    'Math.floor((request.numTokens - 1) / Limits.pageSize)',
    'Math.floor(request.numTokens / Limits.pageSize)',
  ),
  fault(
    'a prefix hit is one page short',
    'pages/prefix-cache.ts',
    'while (pages.length < numUsable) {',
    'while (pages.length < numUsable - 1) {',
  ),
  fault(
    'a page is published before it is full',
    'pages/prefix-cache.ts',
    'const numFull = Math.floor(',
    'const numFull = Math.ceil(',
  ),
  fault(
    'a page is published when it is planned',
    'step-planner.ts',
    'request.planCount = 0;\n',
    'request.planCount = 0;\n    request.numComputed = request.numPlanned;\n    state.cache.publish(request);\n',
  ),
  fault(
    'an evaluation takes prefix hits',
    'intake.ts',
    'state.config.prefixCache && request.kind === RequestKind.generate',
    'state.config.prefixCache',
  ),
  fault(
    'equal prompts are computed side by side',
    'admission.ts',
    'if (state.cache.isBeingComputed(request, match.pages.length, state.running)) continue;',
    '',
  ),
  fault(
    'a request waits for a page that nobody computes',
    'pages/prefix-cache.ts',
    'Math.max(other.numComputed, start) < Math.min(other.numPlanned + other.planCount, end) &&',
    '',
  ),
];

const LIFE_FAULTS: readonly Fault[] = [
  fault(
    'the last output token is computed too',
    'request-state.ts',
    'Math.max(0, maxTokens - 1)',
    'maxTokens',
  ),
  fault(
    'one output token too few',
    'request-state.ts',
    'Math.max(0, maxTokens - 1)',
    'Math.max(0, maxTokens - 2)',
  ),
  fault(
    'tokens in flight do not count as history',
    'request-state.ts',
    'return this.numTokens + this.numSampling;',
    'return this.numTokens;',
  ),
  fault('a growing history loses its beginning', 'request-state.ts', 'grown.set(this.tokens);', ''),
  fault(
    'the worst rank goes first',
    'request-state.ts',
    'this.rank < other.rank ||',
    'this.rank > other.rank ||',
  ),
  fault(
    'of equal ranks the latest goes first',
    'request-state.ts',
    'this.arrival < other.arrival',
    'this.arrival > other.arrival',
  ),
  fault(
    'priorities are ignored',
    'intake.ts',
    'state.now - request.priority * state.config.agingMs',
    'state.now',
  ),
  fault(
    'a request is queued at the front',
    'waiting-queue.ts',
    'splice(low, 0, request)',
    'splice(0, 0, request)',
  ),
  fault('the head leaves the queue instead', 'waiting-queue.ts', 'splice(index, 1)', 'splice(0, 1)'),
  fault(
    'a row keeps its generation',
    'row-table.ts',
    '(this.#generations[row] as number) + 1',
    '(this.#generations[row] as number) || 1',
  ),
  fault('a row is not given back', 'scheduler-state.ts', 'this.rows.release(request.row);', ''),
  fault(
    'pages do not wait for their fence',
    'scheduler-state.ts',
    'if (request.lastStep > this.appliedStep) {',
    'if (request.lastStep > this.plannedStep) {',
  ),
  fault(
    'pages wait for a fence one step too early',
    'scheduler-state.ts',
    'if (request.lastStep > this.appliedStep) {',
    'if (request.lastStep > this.appliedStep + 1) {',
  ),
  fault(
    'a fence is passed one step too late',
    'scheduler-state.ts',
    'filter((request) => request.lastStep <= step)',
    'filter((request) => request.lastStep < step)',
  ),
  fault('a planned step sets no fence', 'step-planner.ts', 'request.lastStep = step;', ''),
  fault(
    'who is aborted after a preemption drains twice',
    'scheduler-state.ts',
    'if (request.isDraining) return;',
    '',
  ),
  fault('preemption keeps the page table', 'scheduler-state.ts', 'request.numSentPages = 0;', ''),
  fault('a resumed request keeps its computed count', 'admission.ts', 'request.numComputed = numCached;', ''),
  fault('a resumed request keeps its planned count', 'admission.ts', 'request.numPlanned = numCached;', ''),
  fault(
    'a resumed request gets its prompt only',
    'step-planner.ts',
    '(0, request.numTokens)',
    '(0, request.numPromptTokens)',
  ),
  fault(
    'ended requests still count their deadline',
    'scheduler-state.ts',
    'if (request.deadline !== null) this.numDeadlines -= 1;',
    '',
  ),
  fault('ended requests stay known', 'scheduler-state.ts', 'this.requests.delete(request.id);', ''),
  fault('the last event is lost', 'scheduler-state.ts', 'this.events.push(event);', ''),
  fault(
    'an abort of a waiting request is lost',
    'scheduler.ts',
    "if (request !== undefined) this.#state.end(request, { type: 'aborted', id });",
    "if (request?.phase === 'running') this.#state.end(request, { type: 'aborted', id });",
  ),
  fault(
    'a resume is lost',
    'scheduler.ts',
    'request.isPaused = false;',
    'request.isPaused = request.isPaused;',
  ),
  fault(
    'a pause is lost',
    'scheduler.ts',
    'request.isPaused = true;',
    'request.isPaused = request.isPaused;',
  ),
];

const PLAN_FAULTS: readonly Fault[] = [
  fault('a prompt may fill the context', 'intake.ts', '(isGenerating ? 1 : 0)', '0'),
  fault(
    'the output may leave the context',
    'intake.ts',
    'Math.min(maxTokens, config.contextLength - promptTokens.length)',
    'maxTokens',
  ),
  fault(
    'a request one page too large is accepted',
    'intake.ts',
    'if (numPages > config.numPages) {',
    'if (numPages > config.numPages + 1) {',
  ),
  fault(
    'the queue takes one too many',
    'intake.ts',
    'waiting.length >= config.maxQueuedRequests',
    'waiting.length > config.maxQueuedRequests',
  ),
  fault(
    'queued tokens are not bounded',
    'intake.ts',
    'waiting.length > 0 && numQueuedTokens',
    'waiting.length < 0 && numQueuedTokens',
  ),
  fault(
    'a chunk ignores the budget',
    'step-draft.ts',
    'Math.min(request.numRemaining, this.budget, cap)',
    'Math.min(request.numRemaining, cap)',
  ),
  fault('the budget is never spent', 'step-draft.ts', 'this.budget -= count;', ''),
  fault(
    'chunks beside decodes are not capped',
    'step-draft.ts',
    'this.numDecodes > 0 ?',
    'this.numDecodes > 99 ?',
  ),
  fault(
    'a page too few at a page border',
    'step-draft.ts',
    'pagesFor(end) - request',
    'pagesFor(end - 1) - request',
  ),
  fault('a page too many', 'step-draft.ts', 'pagesFor(end) - request', 'pagesFor(end + 1) - request'),
  fault(
    'a victim stays in the step',
    'step-draft.ts',
    'this.#placed.splice(this.#placed.indexOf(victim), 1);',
    '',
  ),
  fault(
    'anyone may be a victim',
    'step-draft.ts',
    'if (!request.isPaused && !requester.outranks(request)) continue;',
    '',
  ),
  fault(
    'a request is admitted without room',
    'admission.ts',
    'if (needed <= state.pool.numAvailable) return true;',
    'return true;',
  ),
  fault('idle pages found count as free too', 'admission.ts', ' + match.numIdle', ''),
  fault(
    'an input that must stay whole goes into a step without room for it',
    'step-draft.ts',
    'splitsInputs || request.numTokens <= this.budget',
    'splitsInputs || request.numTokens > 0',
  ),
  fault(
    'an input that must stay whole is cut',
    'step-draft.ts',
    'if (!this.#state.config.splitsInputs) return request.numRemaining;',
    'if (!this.#state.config.splitsInputs) return Math.ceil(request.numRemaining / 2);',
  ),
  fault(
    'histories overflow the plan',
    'admission.ts',
    'return draft.numWords + needed <= config.maxPlanWords;',
    'return needed > 0;',
  ),
  fault(
    'small requests slip past large ones',
    'admission.ts',
    'fitsPlan(state, draft, request, match)) return;',
    'fitsPlan(state, draft, request, match)) continue;',
  ),
  fault('a paused request is admitted', 'admission.ts', 'if (request.isPaused) continue;', ''),
  fault(
    'a preempted request resumes before its tokens have arrived',
    'admission.ts',
    'if (request.isDraining) return;',
    '',
  ),
  fault('paused requests keep everything', 'admission.ts', 'if (victim !== null) draft.preempt(victim);', ''),
  fault(
    'the wake-up after a preemption is lost',
    'step-planner.ts',
    'if (draft.numPreempted > 0) continue;',
    'if (draft.numPreempted > 0) return null;',
  ),
  {
    name: 'decodes wait for their turn among prompts',
    patches: [
      {
        file: 'step-planner.ts',
        find: 'if (request.numRemaining !== 1 || !canRun(request)) continue;',
        replace: 'if (request.numRemaining >= 0) continue;',
      },
      {
        file: 'step-planner.ts',
        find: 'if (request.numRemaining > 1 && canRun(request))',
        replace: 'if (request.numRemaining >= 1 && canRun(request))',
      },
    ],
  },
  fault(
    'a paused request is planned',
    'step-planner.ts',
    "request.phase === 'running' &&\n    !request.isPaused &&",
    "request.phase === 'running' &&",
  ),
  fault(
    'deadlines of waiting requests are ignored',
    'step-planner.ts',
    '[...state.requests.values()]',
    '[...state.running]',
  ),
  fault(
    'a deadline is noticed too late',
    'step-planner.ts',
    'state.now < request.deadline',
    'state.now <= request.deadline',
  ),
  fault('no step is planned ahead', 'step-planner.ts', '>= Limits.queueDepth', '>= 1'),
  fault(
    'a row samples one token too early',
    'step-planner.ts',
    'start + planCount === request.historyLength',
    'start + planCount >= request.historyLength - 1',
  ),
  fault(
    'sampled tokens in flight are not counted',
    'step-planner.ts',
    'if (samples) request.numSampling += 1;',
    '',
  ),
  fault(
    'pages are sent again and again',
    'step-planner.ts',
    'request.numSentPages = request.pages.length;',
    '',
  ),
  fault(
    'the first new page is not sent',
    'step-planner.ts',
    'let index = request.numSentPages;',
    'let index = request.numSentPages === 0 ? 0 : request.numSentPages + 1;',
  ),
];

const RESULT_FAULTS: readonly Fault[] = [
  fault(
    'late results for ended requests count',
    'step-results.ts',
    "if (request.phase !== 'ended') applyEntry",
    'applyEntry',
  ),
  fault(
    'late results for preempted requests are lost',
    'step-results.ts',
    "if (request.phase !== 'ended') applyEntry",
    "if (request.phase === 'running') applyEntry",
  ),
  fault(
    'a broken number passes',
    'step-results.ts',
    'if (result.finish === Finish.numericError) {',
    'if (result.finish > 99) {',
  ),
  fault(
    'a failed step spares preempted requests',
    'step-results.ts',
    "if (request.phase !== 'ended') {",
    "if (request.phase === 'running') {",
  ),
  fault('a failed step holds its pages', 'step-results.ts', 'state.passFence(step);', ''),
  fault(
    'the context does not end a request',
    'step-results.ts',
    ' || request.numGenerated >= request.maxTokens',
    '',
  ),
  fault(
    'a stop token does not end a request',
    'step-results.ts',
    'if (result.finish === Finish.stop)',
    'if (result.finish > 99)',
  ),
  fault(
    'an evaluation ends with its first chunk',
    'step-results.ts',
    'return request.numComputed >= request.numPromptTokens',
    'return request.numComputed >= 1',
  ),
  fault('tokens received still count as in flight', 'step-results.ts', 'request.numSampling -= 1;', ''),
  fault('computed pages are never published', 'step-results.ts', 'state.cache.publish(request);', ''),
];

const DRAFTING = 'speculation/drafting.ts';
const GUESS_FAULTS: readonly Fault[] = [
  fault(
    'guesses are made behind results in flight',
    DRAFTING,
    ' || request.numComputed < request.numPlanned) continue;',
    ') continue;',
  ),
  fault(
    'steps are planned while guesses are in flight',
    DRAFTING,
    'if (state.running.some(({ drafted }) => drafted !== null)) return true;',
    '',
  ),
  fault(
    'guesses go past the last token',
    DRAFTING,
    'maxTokens - numGenerated - 1',
    'maxTokens - numGenerated',
  ),
  fault(
    'guesses ignore the budget',
    DRAFTING,
    'numDraftable(request), draft.budget,',
    'numDraftable(request),',
  ),
  fault('guesses take pages that are not there', DRAFTING, 'numPages <= pool.numAvailable', 'numPages >= 0'),
  fault(
    'guesses go into steps with prompts',
    DRAFTING,
    ' || draft.numDecodes !== draft.placed.length) return;',
    ') return;',
  ),
  fault(
    "a request's own limit of guesses is ignored",
    'speculation/speculation.ts',
    'Math.min(maxTokens, limit)',
    'maxTokens',
  ),
  fault('guesses are planned positions', 'step-planner.ts', '= start + planCount;', '= start + count;'),
  fault(
    'ended requests still count as guessing',
    'scheduler-state.ts',
    'if (request.speculation !== null) this.numSpeculating -= 1;',
    '',
  ),
  fault('pages of wrong guesses are kept', 'step-results.ts', 'state.trimPages(request);', ''),
  fault(
    'pages of wrong guesses are given back, but native is not told of the next',
    'scheduler-state.ts',
    'this.pool.release(request.pages.pop() as PageId);\n    request.numSentPages = request.pages.length;',
    'this.pool.release(request.pages.pop() as PageId);',
  ),
  fault(
    'wrong guesses count as computed',
    'step-results.ts',
    'request.numComputed = knownEnd(entry) + result.further.length;',
    'request.numComputed = entry.start + entry.count;',
  ),
  fault(
    'positions of right guesses are computed again',
    'step-results.ts',
    'request.numPlanned = request.numComputed;',
    '',
  ),
  fault('tokens after right guesses are lost', 'step-results.ts', 'request.append(token);', ''),
  fault('all tokens name one result row', 'step-results.ts', 'resultRow: resultRow + 1 + i', 'resultRow'),
  fault(
    'result rows of guesses are not counted',
    'step-results.ts',
    'resultRow += 1 + entry.drafts.length;',
    'resultRow += 1;',
  ),
  fault('guesses stay in flight for ever', 'step-results.ts', 'request.drafted = null;', ''),
];

export const FAULTS: readonly Fault[] = [
  ...PAGE_FAULTS,
  ...LIFE_FAULTS,
  ...PLAN_FAULTS,
  ...RESULT_FAULTS,
  ...GUESS_FAULTS,
];
