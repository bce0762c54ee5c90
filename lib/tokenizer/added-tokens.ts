import { type TextPlace, WHOLE_TEXT } from './stages/sentencepiece-text';
import { StringTrie } from './string-trie';
import type { AddedTokenJson } from './vocabulary/tokenizer-json';
import { trimEnd, trimStart } from './white-space';

/** Half-open ranges [start, end) of a text, flat and ascending: start, end, start, end, ... in UTF-16 units. */
export type TextRanges = readonly number[];

/** An added token found in a text, or a piece of text between such. */
export type Section =
  | { readonly token: number }
  | {
      readonly text: string;
      /** Nothing stands before it. */
      readonly isFirst: boolean;
      /** Symbols around it that are parts of the same text. */
      readonly place: TextPlace;
    };

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
  readonly #isEmpty: boolean;

  constructor(tokens: readonly AddedTokenJson[]) {
    this.#trie = new StringTrie();
    this.#isEmpty = tokens.length === 0;
    for (const token of tokens) this.#trie.add(token.content, token);
  }

  /** Nothing that overlaps a plain range is taken for a token. `isFirst`: nothing stands before the text. */
  split(text: string, plainRanges: TextRanges, isFirst = true): Section[] {
    if (this.#isEmpty) return text === '' ? [] : [{ text, isFirst, place: WHOLE_TEXT }];
    const sections: Section[] = [];
    let start = 0;
    let last: AddedTokenJson | null = null;
    const pushText = (end: number, next: AddedTokenJson | null): void => {
      let piece = text.slice(start, end);
      if (last?.rstrip === true) piece = trimStart(piece);
      if (next?.lstrip === true) piece = trimEnd(piece);
      const place = { continues: last?.isTextSymbol === true, isContinued: next?.isTextSymbol === true };
      // A text that begins with a symbol has an empty piece before it: the space that goes before a text.
      if (piece === '' && (place.continues || !place.isContinued)) return;
      sections.push({ text: piece, isFirst: isFirst && last === null, place });
    };
    let range = 0;
    for (let i = 0; i < text.length; ) {
      while (range < plainRanges.length && (plainRanges[range + 1] as number) <= i) range += 2;
      const limit = plainRanges[range] ?? text.length;
      if (i >= limit) {
        i = plainRanges[range + 1] as number;
        continue;
      }
      const token = this.#trie.longestAt(text, i, limit, () => true);
      if (token === null) {
        i += 1;
        continue;
      }
      const end = i + token.content.length;
      if (token.single_word !== true || isWord(text, i, end)) {
        pushText(i, token);
        sections.push({ token: token.id });
        start = end;
        last = token;
      }
      i = end;
    }
    pushText(text.length, null);
    return sections;
  }
}

const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

/** Whether neither of the neighbours is a letter, digit or underscore. */
function isWord(text: string, start: number, end: number): boolean {
  const before = Array.from(text.slice(Math.max(0, start - 2), start)).at(-1) ?? ' ';
  const after = Array.from(text.slice(end, end + 2))[0] ?? ' ';
  return !WORD.test(before) && !WORD.test(after);
}
