import type { JsonObject, JsonValue, TokenizerSource } from '../../model/checkpoint-types';
import { decodeTokens } from '../stream-decoder';
import type { TokenTable } from '../token-table';

/** The texts that chat templates know as bos_token and eos_token; empty when the vocabulary has none. */
export interface NamedTokens {
  readonly bosToken: string;
  readonly eosToken: string;
}

export function namedTokens(source: TokenizerSource, table: TokenTable): NamedTokens {
  if (source.kind === 'gguf') {
    const text = (id: number | null) =>
      id === null ? '' : decodeTokens(table, [id], { skipSpecialTokens: false });
    return { bosToken: text(source.bosTokenId), eosToken: text(source.eosTokenId) };
  }
  const find = (name: string) =>
    tokenText(source.tokenizerConfig, name) ?? tokenText(source.specialTokensMap, name) ?? '';
  return { bosToken: find('bos_token'), eosToken: find('eos_token') };
}

/** A token is written as text, or as an object with its content. */
export function tokenText(config: JsonObject | null, name: string): string | null {
  const value: JsonValue | undefined = config?.[name];
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const { content } = value as JsonObject;
  return typeof content === 'string' ? content : null;
}
