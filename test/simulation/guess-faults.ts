import { type Fault, fault } from './fault';

const DRAFTING = 'speculation/drafting.ts';
/** Mistakes in what is guessed, computed and kept. */
export const GUESS_FAULTS: readonly Fault[] = [
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
  fault('guesses take pages that are not there', DRAFTING, ' <= pool.numAvailable', ' >= 0'),
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
