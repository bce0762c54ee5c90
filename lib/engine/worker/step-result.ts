import { Limits, ResultHeader, ResultRow } from '../../native/abi';
import type { EntryResult, StepResult } from '../../scheduler/types';

/** Words of a result buffer for steps of up to `maxRows` entries. */
export const resultWords = (maxRows: number): number =>
  ResultHeader.numWords + maxRows * Limits.resultRowWords;

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

  constructor(memory: ArrayBufferLike) {
    this.words = new Int32Array(memory);
    this.#floats = new Float32Array(memory);
  }

  static shared(maxRows: number): ResultBuffer {
    return new ResultBuffer(new SharedArrayBuffer(resultWords(maxRows) * Int32Array.BYTES_PER_ELEMENT));
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

  read(): StepResult {
    const entries: EntryResult[] = [];
    const numRows = this.#word(ResultHeader.numRows);
    for (let entry = 0; entry < numRows; entry += 1) {
      const at = rowOffset(entry);
      entries.push({
        row: this.#word(at + ResultRow.row),
        generation: this.#word(at + ResultRow.generation),
        token: this.#word(at + ResultRow.numTokens) > 0 ? this.#word(at + ResultRow.token) : -1,
        finish: this.#word(at + ResultRow.finish),
      });
    }
    return { step: this.step, entries };
  }

  logprobs(entry: number): LogprobRecord {
    const at = rowOffset(entry);
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

const rowOffset = (entry: number): number => ResultHeader.numWords + entry * Limits.resultRowWords;
