import type {
  JsonObject,
  MergesTokenizerSource,
  TokenizerModelSource,
  WordListTokenizerSource,
} from '../../../model/checkpoint-types';
import { tokenText } from '../named-tokens';
import type { AddedTokenJson } from '../tokenizer-json';
import { withAddedTokens } from './special-tokens';

export type FileSource = TokenizerModelSource | MergesTokenizerSource | WordListTokenizerSource;

/** The tokens that the files beside a vocabulary add to those known of it. */
export function addedTokensOf(
  source: FileSource,
  known: readonly AddedTokenJson[],
): readonly AddedTokenJson[] {
  const { tokenizerConfig, specialTokensMap, addedTokens } = source;
  const named = new Set<string | null>();
  for (const map of [tokenizerConfig, specialTokensMap]) {
    for (const key of Object.keys(map ?? {})) if (key.endsWith('_token')) named.add(tokenText(map, key));
  }
  return withAddedTokens(known, tokenizerConfig, addedTokens, (content) => named.has(content));
}

/** The tokenizer class that a checkpoint names, empty where it names none. */
export const classOf = (config: JsonObject | null): string =>
  String(config?.tokenizer_class ?? '').replace(/Fast$/, '');

export function boolean(config: JsonObject | null, key: string): boolean | null {
  const value = config?.[key];
  return typeof value === 'boolean' ? value : null;
}

export function byContent(added: readonly AddedTokenJson[], contents: readonly string[]): AddedTokenJson[] {
  return contents.flatMap((content) => added.find((token) => token.content === content) ?? []);
}
