import type { TokenTable } from '../../tokenizer/token-table';
import type { TokenLogprob } from '../types';
import type { LogprobRecord } from '../worker/step-result';

/** A token's log-probability with its text; a token that holds part of a character shows U+FFFD, its bytes are exact. */
export function tokenLogprob(table: TokenTable, token: number, record: LogprobRecord): TokenLogprob {
  const top = Array.from(record.topTokens, (id, i) => spell(table, id, record.topLogprobs[i] ?? Number.NaN));
  return { ...spell(table, token, record.logprob), top };
}

function spell(table: TokenTable, token: number, logprob: number): Omit<TokenLogprob, 'top'> {
  const bytes = table.bytes.subarray(table.offsets[token], table.offsets[token + 1]);
  return { token, text: Buffer.from(bytes).toString('utf8'), bytes: [...bytes], logprob };
}
