import type { TokenTable } from '../../tokenizer/token-table';
import type { TokenLogprob } from '../types';
import type { LogprobRecord } from '../worker/step-result';

interface Spelling {
  readonly text: string;
  readonly bytes: readonly number[];
}

/** Spellings kept; the likeliest tokens of a model are far fewer. */
const MAX_KEPT = 8192;

/**
 * Spells single tokens for log-probabilities; one that holds part of a character shows U+FFFD, its bytes are exact.
 * Spellings are shared between answers: twenty alternatives per token would otherwise keep the collector busy.
 */
export class TokenSpeller {
  readonly #table: TokenTable;
  readonly #bytes: Buffer;
  readonly #kept = new Map<number, Spelling>();

  constructor(table: TokenTable) {
    this.#table = table;
    this.#bytes = Buffer.from(table.bytes.buffer, table.bytes.byteOffset, table.bytes.length);
  }

  logprob(token: number, record: LogprobRecord): TokenLogprob {
    const { text, bytes } = this.#spell(token);
    const top: TokenLogprob['top'][number][] = [];
    for (const [i, id] of record.topTokens.entries()) {
      const spelling = this.#spell(id);
      const logprob = record.topLogprobs[i] ?? Number.NaN;
      top.push({ token: id, text: spelling.text, bytes: spelling.bytes, logprob });
    }
    return { token, text, bytes, logprob: record.logprob, top };
  }

  #spell(token: number): Spelling {
    const kept = this.#kept.get(token);
    if (kept !== undefined) return kept;
    // A head may have more rows than the vocabulary has tokens: such an id is spelt as nothing.
    const start = this.#table.offsets[token] ?? 0;
    const end = this.#table.offsets[token + 1] ?? start;
    const spelling: Spelling = {
      text: this.#bytes.toString('utf8', start, end),
      bytes: Object.freeze([...this.#bytes.subarray(start, end)]),
    };
    if (this.#kept.size >= MAX_KEPT) this.#kept.clear();
    this.#kept.set(token, spelling);
    return spelling;
  }
}
