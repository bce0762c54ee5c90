import { StringTrie } from './string-trie';
import type { AddedTokenJson } from './vocabulary/tokenizer-json';

/** Half-open ranges [start, end) of a text, flat and ascending: start, end, start, end, ... in UTF-16 units. */
export type TextRanges = readonly number[];

/** A piece of text between added tokens, or an added token found in it. */
export type Section = { readonly text: string } | { readonly token: number };

/**
 * Whether a token acts as control markup: user text that spells it out is not meant as such.
 * `<think>` or `<tool_call>` are no special tokens in a tokenizer.json, but steer a model all the same; runs of white space
 * and whole words that were added to a vocabulary are ordinary text.
 */
export function isMarkup(token: AddedTokenJson): boolean {
  return token.special === true || /^(?:<.+>|\[.+\]|\{.+\})$/su.test(token.content);
}

/** Cuts added tokens out of a text: at each place the longest one. */
export class AddedTokenSplitter {
  readonly #trie: StringTrie<AddedTokenJson>;

  constructor(tokens: Iterable<AddedTokenJson>) {
    this.#trie = new StringTrie();
    for (const token of tokens) this.#trie.add(token.content, token);
  }

  /** Nothing that overlaps a plain range is taken for a token. */
  split(text: string, plainRanges: TextRanges): Section[] {
    const sections: Section[] = [];
    let start = 0;
    let stripNext = false;
    let range = 0;
    const pushText = (end: number, stripEnd: boolean): void => {
      let piece = text.slice(start, end);
      if (stripNext) piece = piece.trimStart();
      if (stripEnd) piece = piece.trimEnd();
      if (piece !== '') sections.push({ text: piece });
    };
    for (let i = 0; i < text.length; ) {
      while (range < plainRanges.length && (plainRanges[range + 1] as number) <= i) range += 2;
      const limit = plainRanges[range] ?? text.length;
      if (i >= limit) {
        i = plainRanges[range + 1] as number;
        continue;
      }
      const token = this.#trie.longestAt(text, i, limit, isAllowedAt);
      if (token === null) {
        i += 1;
        continue;
      }
      pushText(i, token.lstrip === true);
      sections.push({ token: token.id });
      i += token.content.length;
      start = i;
      stripNext = token.rstrip === true;
    }
    pushText(text.length, false);
    return sections;
  }
}

const WORD = /[\p{L}\p{N}_]/u;

function isAllowedAt(token: AddedTokenJson, text: string, start: number): boolean {
  if (token.single_word !== true) return true;
  const before = text[start - 1] ?? ' ';
  const after = text[start + token.content.length] ?? ' ';
  return !WORD.test(before) && !WORD.test(after);
}
