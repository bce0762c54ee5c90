import { type Fault, fault } from './fault';

const SEQUENCES = 'speculation/draft-sequences.ts';

/** Mistakes in what a draft model computes, keeps and hands over. */
export const DRAFT_FAULTS: readonly Fault[] = [
  fault(
    'refused guesses count as computed',
    SEQUENCES,
    'Math.min(sequence.numComputed, sequence.numTokens + numRight, numTokens - 1)',
    'Math.min(sequence.numComputed, numTokens - 1)',
  ),
  fault(
    'nothing is left to compute when all guesses were right',
    SEQUENCES,
    'sequence.numTokens + numRight, numTokens - 1)',
    'sequence.numTokens + numRight, numTokens)',
  ),
  fault(
    'draft steps ignore their budget',
    SEQUENCES,
    'order.numTokens - sequence.numComputed, budget)',
    '1e9)',
  ),
  fault(
    'chunks of draft histories are taken for whole',
    SEQUENCES,
    'const samples = start + count === numTokens + guesses.length;',
    'const samples = true;',
  ),
  fault(
    'a draft row is not written anew',
    SEQUENCES,
    'if (this.#isFirstStep) this.#admit(',
    'if (this.#numRounds === 1) this.#admit(',
  ),
  fault(
    'draft pages are not given back',
    SEQUENCES,
    'for (const page of sequence.pages) this.#pool.release(page);',
    '',
  ),
  fault(
    'draft rows are not given back',
    SEQUENCES,
    '    this.#rows.release(sequence.row);\n    for',
    '    for',
  ),
  fault(
    'draft plans outgrow their buffer',
    SEQUENCES,
    'if (numWords > this.#config.maxPlanWords) return;',
    '',
  ),
  fault(
    'the draft model is given tokens it does not know',
    SEQUENCES,
    '|| isForeign) return null;',
    ') return null;',
  ),
  fault(
    'the target is given tokens it does not know',
    SEQUENCES,
    'if (token >= 0 && token < this.#config.vocabSize)',
    'if (token >= 0)',
  ),
  fault(
    'draft sequences outgrow their context',
    SEQUENCES,
    'Math.min(numGuesses, contextLength - numTokens)',
    'numGuesses',
  ),
  fault(
    'guesses for other tokens are taken',
    'speculation/offered-guesses.ts',
    '!this.isFor(numTokens) || ',
    '',
  ),
  fault(
    'ended requests stay in the draft model',
    'speculation/draft-model.ts',
    'this.sequences.forget(id);',
    '',
  ),
  fault(
    'the target runs beside a draft step',
    'step-planner.ts',
    'if (awaitsResult(state) || state.draftModel?.isBusy) return null;',
    'if (awaitsResult(state)) return null;',
  ),
  fault(
    'draft steps are planned beside the target',
    'speculation/drafting.ts',
    'draftModel === null || state.inFlight.length > 0)',
    'draftModel === null)',
  ),
];
