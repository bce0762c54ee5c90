import { Limits, ResultHeader, ResultRow } from '../../native/abi';
import type { EntryResult, PlanEntry, StepPlan, StepResult } from '../../scheduler/types';

/** Words of a result buffer that holds `numRows` rows. */
const resultWords = (numRows: number): number => ResultHeader.numWords + numRows * Limits.resultRowWords;

type Writable<T> = { -readonly [key in keyof T]: T[key] };

/** Log-probability of a sampled token and of the likeliest alternatives, likeliest first. */
export interface LogprobRecord {
  readonly logprob: number;
  readonly topTokens: Int32Array;
  readonly topLogprobs: Float32Array;
}

/** Reads what the engine thread wrote for one step. Layout: native/base/step_records.def. */
export class ResultBuffer {
  readonly words: Int32Array;
  readonly #floats: Float32Array;
  /** Entries of the last `read`, which the next one takes again. */
  readonly #entries: Writable<EntryResult>[] = [];

  constructor(memory: ArrayBufferLike) {
    this.words = new Int32Array(memory);
    this.#floats = new Float32Array(memory);
  }

  /** For steps of up to `maxRows` entries. */
  static shared(maxRows: number): ResultBuffer {
    const numWords = resultWords(maxRows + Limits.maxStepDrafts);
    return new ResultBuffer(new SharedArrayBuffer(numWords * Int32Array.BYTES_PER_ELEMENT));
  }

  /** A copy that outlives the slot: the next step overwrites the shared one. */
  copy(): ResultBuffer {
    return new ResultBuffer(this.words.slice(0, resultWords(this.#word(ResultHeader.numRows))).buffer);
  }

  get step(): number {
    return this.#word(ResultHeader.step);
  }

  /** 0 when the step succeeded. */
  get errorCode(): number {
    return this.#word(ResultHeader.errorCode);
  }

  /** How long the step took, from its plan's first word to here. */
  get elapsedMicros(): number {
    return this.#word(ResultHeader.elapsedMicros);
  }

  /** The result of the step that `plan` described. Its entries hold until the next call. */
  read(plan: StepPlan): StepResult {
    const entries = this.#entries;
    entries.length = Math.min(entries.length, plan.entries.length);
    while (entries.length < plan.entries.length)
      entries.push({ row: 0, generation: 0, token: -1, further: NONE, finish: 0 });
    let row = 0;
    entries.forEach((entry, i) => {
      const { drafts } = plan.entries[i] as PlanEntry;
      this.#readEntry(entry, row, drafts.length);
      row += 1 + drafts.length;
    });
    return { step: this.step, entries };
  }

  /** The entry whose result starts in row `first`: it ends as the last token that was sampled did. */
  #readEntry(entry: Writable<EntryResult>, first: number, numDrafts: number): void {
    const at = rowOffset(first);
    const further = numDrafts === 0 ? NONE : this.#further(first + 1, numDrafts);
    entry.row = this.#word(at + ResultRow.row);
    entry.generation = this.#word(at + ResultRow.generation);
    entry.token = this.#numTokens(first) > 0 ? this.#word(at + ResultRow.token) : -1;
    entry.further = further;
    entry.finish = this.#word(rowOffset(first + further.length) + ResultRow.finish);
  }

  #further(first: number, numDrafts: number): number[] {
    const tokens: number[] = [];
    for (let row = first; row < first + numDrafts && this.#numTokens(row) > 0; row += 1)
      tokens.push(this.#word(rowOffset(row) + ResultRow.token));
    return tokens;
  }

  #numTokens(row: number): number {
    return this.#word(rowOffset(row) + ResultRow.numTokens);
  }

  logprobs(row: number): LogprobRecord {
    const at = rowOffset(row);
    const numTop = this.#word(at + ResultRow.numTop);
    const tops = at + ResultRow.tops;
    return {
      logprob: this.#floats[at + ResultRow.logprob] ?? Number.NaN,
      topTokens: this.words.subarray(tops, tops + numTop),
      topLogprobs: this.#floats.subarray(tops + Limits.maxLogprobs, tops + Limits.maxLogprobs + numTop),
    };
  }

  #word(index: number): number {
    return this.words[index] ?? 0;
  }
}

/** Most entries have no drafts: they share this. */
const NONE: readonly number[] = [];

const rowOffset = (row: number): number => ResultHeader.numWords + row * Limits.resultRowWords;
