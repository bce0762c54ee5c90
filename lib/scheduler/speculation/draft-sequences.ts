import { AutoglmError } from '../../errors';
import { Admission, Entry, Finish, PageUpdate, PlanHeader } from '../../native/abi';
import { PagePool } from '../pages/page-pool';
import { pagesFor } from '../request-state';
import { RowTable } from '../row-table';
import type {
  DraftModelConfig,
  EntryResult,
  PageId,
  PlanAdmission,
  PlanEntry,
  PlanPageUpdate,
  RequestId,
  StepPlan,
  StepResult,
} from '../types';

/** A sequence whose next tokens are to be guessed. */
export interface DraftOrder {
  readonly id: RequestId;
  /** Known tokens: the first `numTokens`. */
  readonly tokens: Int32Array;
  readonly numTokens: number;
  readonly numGuesses: number;
}

/** What the draft model holds of one sequence. */
interface DraftSequence {
  readonly id: RequestId;
  row: number;
  generation: number;
  readonly pages: PageId[];
  /** What the last round guessed from. */
  tokens: Int32Array;
  numTokens: number;
  readonly guesses: number[];
  /** Guesses the round is still to make at most; 0 once there is a reason to stop. */
  numWanted: number;
  /** Positions whose keys and values are right for `tokens` and `guesses`. */
  numComputed: number;
  /** Positions the round's first step gives it. */
  firstCount: number;
  /** The last round it took part in. */
  round: number;
}

const NO_DRAFTS = new Int32Array(0);

/**
 * Plans the draft model's steps. A round guesses for several sequences at once: its first step computes what each lacks of
 * its known tokens, each step gives everybody caught up one more guess. What the target refused is computed again; a
 * sequence whose row or pages others need is forgotten and starts over.
 * Invariant: one step at a time is in flight, so whatever is given back may be given out at once.
 */
export class DraftSequences {
  readonly #config: DraftModelConfig;
  readonly #pool: PagePool;
  readonly #rows: RowTable;
  readonly #sequences = new Map<RequestId, DraftSequence>();
  #round: DraftSequence[] = [];
  #numRounds = 0;
  #numSteps = 0;
  #isFirstStep = false;
  #inFlight: StepPlan | null = null;

  constructor(config: DraftModelConfig) {
    this.#config = config;
    this.#pool = new PagePool(config.numPages);
    this.#rows = new RowTable(config.maxRows);
  }

  get inFlight(): StepPlan | null {
    return this.#inFlight;
  }

  /** Positions to compute before the sequence's first guess. */
  lagOf(id: RequestId, numTokens: number): number {
    return numTokens - Math.min(this.#sequences.get(id)?.numComputed ?? 0, numTokens - 1);
  }

  /** Begins a round. Orders for which there is no row, page or room are passed over. */
  begin(orders: readonly DraftOrder[]): void {
    this.#numRounds += 1;
    this.#isFirstStep = true;
    this.#round = [];
    let numWords: number = PlanHeader.numWords;
    let budget = this.#config.maxStepTokens;
    for (const order of orders) {
      const sequence = budget > 0 ? this.#enter(order) : null;
      if (sequence === null) continue;
      numWords += Admission.numWords + order.numTokens + Entry.numWords;
      numWords += sequence.pages.length * PageUpdate.numWords;
      if (numWords > this.#config.maxPlanWords) return;
      sequence.firstCount = Math.min(order.numTokens - sequence.numComputed, budget);
      budget -= sequence.firstCount;
      this.#round.push(sequence);
    }
  }

  /** The round's next step, or null when there is nothing left to guess. */
  nextStep(): StepPlan | null {
    if (this.#inFlight !== null) throw new AutoglmError('internal', 'a draft step is in flight already');
    const admissions: PlanAdmission[] = [];
    const pageUpdates: PlanPageUpdate[] = [];
    const entries: PlanEntry[] = [];
    for (const sequence of this.#round) {
      if (this.#isFirstStep) this.#admit(sequence, admissions, pageUpdates);
      else if (sequence.guesses.length === 0) continue; // it is still catching up
      if (sequence.guesses.length >= sequence.numWanted) continue;
      const { id, row, generation, numTokens, guesses, numComputed: start } = sequence;
      const count = this.#isFirstStep ? sequence.firstCount : 1;
      const samples = start + count === numTokens + guesses.length;
      entries.push({ row, generation, id, start, count, samples, drafts: NO_DRAFTS });
    }
    this.#isFirstStep = false;
    if (entries.length === 0) return null;
    this.#numSteps += 1;
    this.#inFlight = { step: this.#numSteps, isDraft: true, admissions, pageUpdates, entries };
    return this.#inFlight;
  }

  /** Takes in the result of the step in flight. */
  apply(result: StepResult): void {
    const plan = this.#land(result.step);
    plan.entries.forEach((entry, i) => {
      const sequence = this.#sequences.get(entry.id);
      const found = result.entries[i];
      if (sequence === undefined || found === undefined) return;
      if (found.row !== entry.row || found.generation !== entry.generation)
        throw new AutoglmError('internal', `entry ${i} of draft step ${plan.step} is for another row`);
      this.#take(sequence, entry, found);
    });
  }

  /** The step failed as a whole: nobody knows what its sequences' pages hold. */
  applyFailure(step: number): void {
    for (const { id } of this.#land(step).entries) this.forget(id);
  }

  /** What the round has guessed for a sequence; empty when it took no part or has not caught up. */
  guessesOf(id: RequestId): Int32Array {
    const sequence = this.#sequences.get(id);
    return sequence?.round === this.#numRounds ? Int32Array.from(sequence.guesses) : NO_DRAFTS;
  }

  forget(id: RequestId): void {
    const sequence = this.#sequences.get(id);
    if (sequence === undefined) return;
    this.#sequences.delete(id);
    this.#round = this.#round.filter((other) => other !== sequence);
    this.#rows.release(sequence.row);
    for (const page of sequence.pages) this.#pool.release(page);
  }

  checkInvariants(): void {
    this.#pool.checkInvariants();
    let numOwned = 0;
    for (const { id, row, generation, pages, numComputed, numTokens, guesses } of this.#sequences.values()) {
      numOwned += pages.length;
      const isRight =
        this.#rows.isCurrent(row, generation) &&
        numComputed < numTokens + guesses.length + 1 &&
        pages.length >= pagesFor(numComputed);
      if (isRight) continue;
      const found = `${numComputed} of ${numTokens}+${guesses.length} positions computed in ${pages.length} pages`;
      throw new AutoglmError('internal', `draft sequence ${id} is wrong: row ${row}, ${found}`);
    }
    if (numOwned + this.#pool.numFree !== this.#config.numPages)
      throw new AutoglmError('internal', `${numOwned} draft pages are owned, ${this.#pool.numFree} free`);
    if (this.#sequences.size + this.#rows.numFree !== this.#config.maxRows)
      throw new AutoglmError('internal', `${this.#sequences.size} draft rows of ${this.#config.maxRows} run`);
  }

  /** Makes the sequence ready for the round; null when there is no place for it. */
  #enter({ id, tokens, numTokens, numGuesses }: DraftOrder): DraftSequence | null {
    const { contextLength, vocabSize } = this.#config;
    const known = this.#sequences.get(id);
    const numWanted = Math.min(numGuesses, contextLength - numTokens);
    const isForeign = tokens.subarray(known?.numTokens ?? 0, numTokens).some((token) => token >= vocabSize);
    if (numWanted < 1 || isForeign) return null;
    const sequence = known ?? this.#create(id);
    if (sequence === null) return null;
    const numRight = numLeading(sequence.guesses, tokens, sequence.numTokens, numTokens);
    sequence.numComputed = Math.min(sequence.numComputed, sequence.numTokens + numRight, numTokens - 1);
    sequence.guesses.length = 0;
    Object.assign(sequence, { tokens, numTokens, numWanted, round: this.#numRounds });
    return this.#reserve(sequence, pagesFor(numTokens + numWanted - 1)) ? sequence : null;
  }

  #create(id: RequestId): DraftSequence | null {
    if (this.#rows.numFree === 0 && !this.#evict()) return null;
    const sequence = {
      id,
      ...this.#rows.take(),
      pages: [],
      tokens: NO_DRAFTS,
      numTokens: 0,
      guesses: [],
      numWanted: 0,
      numComputed: 0,
      firstCount: 0,
      round: this.#numRounds,
    };
    this.#sequences.set(id, sequence);
    return sequence;
  }

  #reserve({ pages }: DraftSequence, numNeeded: number): boolean {
    while (pages.length < numNeeded) {
      const page = this.#pool.tryAllocate();
      if (page !== null) pages.push(page);
      else if (!this.#evict()) return false;
    }
    return true;
  }

  /** Forgets the sequence whose last round is the longest ago; never one of this round. */
  #evict(): boolean {
    let oldest: DraftSequence | null = null;
    for (const sequence of this.#sequences.values()) {
      if (sequence.round < (oldest?.round ?? this.#numRounds)) oldest = sequence;
    }
    if (oldest !== null) this.forget(oldest.id);
    return oldest !== null;
  }

  /** A native row cannot be turned back, so each round writes it anew, with the page table. */
  #admit(sequence: DraftSequence, admissions: PlanAdmission[], pageUpdates: PlanPageUpdate[]): void {
    this.#rows.release(sequence.row);
    const { row, generation } = Object.assign(sequence, this.#rows.take());
    const { id, tokens, numTokens, pages } = sequence;
    admissions.push({ row, generation, id, tokens: tokens.subarray(0, numTokens) });
    pages.forEach((page, index) => {
      pageUpdates.push({ row, index, page });
    });
  }

  #land(step: number): StepPlan {
    const plan = this.#inFlight;
    if (plan?.step !== step)
      throw new AutoglmError('internal', `got a result of draft step ${step}, expected ${plan?.step}`);
    this.#inFlight = null;
    return plan;
  }

  #take(sequence: DraftSequence, { start, count, samples }: PlanEntry, found: EntryResult): void {
    const { token, finish } = found;
    if (finish === Finish.numericError || finish === Finish.skipped) {
      this.forget(sequence.id);
      return;
    }
    sequence.numComputed = start + count;
    if (!samples) return;
    if (token >= 0 && token < this.#config.vocabSize) sequence.guesses.push(token);
    // Nothing follows a token that ends the answer, or one that the target does not know.
    const isLast = finish !== Finish.none || token >= this.#config.vocabSize;
    if (isLast) sequence.numWanted = 0;
  }
}

/** How many of the guesses are the tokens from index `first` on. */
function numLeading(guesses: readonly number[], tokens: Int32Array, first: number, end: number): number {
  let count = 0;
  while (count < guesses.length && first + count < end && guesses[count] === tokens[first + count])
    count += 1;
  return count;
}
