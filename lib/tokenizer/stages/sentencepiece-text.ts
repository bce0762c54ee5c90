import type { StringTrie } from '../string-trie';
import type { Charsmap } from './charsmap';

export interface SentencePieceRules {
  readonly charsmap: Charsmap | null;
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
  readonly escapeWhitespaces: boolean;
  readonly treatWhitespaceAsSuffix: boolean;
  /** Symbols that the rules leave as they are. */
  readonly userDefined: StringTrie<string> | null;
}

/** Whether symbols that are parts of the same text stand before and after it. */
export interface TextPlace {
  readonly continues: boolean;
  readonly isContinued: boolean;
}

export const WHOLE_TEXT: TextPlace = { continues: false, isContinued: false };

const MARK = '\u2581';

/**
 * Brings a text to the form that the pieces of a SentencePiece model are written in: characters replaced by the charsmap,
 * runs of spaces made one and those at both ends dropped, a space put before the text, spaces written as U+2581.
 * Source: sentencepiece, normalizer; a U+2581 of the text itself at its end counts as a space there.
 */
export function sentencePieceText(text: string, rules: SentencePieceRules, place: TextPlace): string {
  if (text === '' && !place.isContinued) return '';
  const space = rules.escapeWhitespaces ? MARK : ' ';
  const replaced = replaceAll(text, rules, !place.continues);
  if (replaced.isBlank && !place.isContinued) return '';
  let body = replaced.body;
  if (rules.escapeWhitespaces) body = body.replaceAll(' ', MARK);
  const addsSpace = rules.addDummyPrefix && !place.continues;
  const dropsSpaces = rules.removeExtraWhitespaces && !place.isContinued;
  if (addsSpace && !rules.treatWhitespaceAsSuffix) body = space + body;
  if (dropsSpaces) {
    let end = body.length;
    while (body[end - 1] === space) end -= 1;
    body = body.slice(0, end);
  }
  return addsSpace && rules.treatWhitespaceAsSuffix ? body + space : body;
}

interface ReplacedText {
  readonly body: string;
  /** Only spaces, and they were left out. */
  readonly isBlank: boolean;
}

/** Spaces that follow spaces are left out where the rules say so, and those at the start. */
function replaceAll(text: string, rules: SentencePieceRules, isStart: boolean): ReplacedText {
  const { charsmap, userDefined, removeExtraWhitespaces } = rules;
  if (charsmap === null && !removeExtraWhitespaces) return { body: text, isBlank: false };
  const bytes = new TextEncoder().encode(text);
  let result = '';
  let afterSpace = isStart && removeExtraWhitespaces;
  let isBlank = afterSpace;
  let unit = 0;
  for (let i = 0; i < bytes.length; ) {
    const symbol = userDefined?.longestAt(text, unit, text.length, () => true) ?? null;
    const found = symbol === null ? (charsmap?.longestAt(bytes, i, bytes.length) ?? null) : null;
    let chunk: string;
    if (found === null) {
      chunk = symbol ?? String.fromCodePoint(text.codePointAt(unit) as number);
      unit += chunk.length;
      i += Buffer.byteLength(chunk);
    } else {
      chunk = found.text;
      for (const end = i + found.length; i < end; i += 1) unit += unitsOf(bytes[i] as number);
    }
    if (chunk !== ' ') isBlank = false;
    if (afterSpace) chunk = chunk.replace(/^ +/, '');
    if (chunk === '') continue;
    result += chunk;
    afterSpace = removeExtraWhitespaces && chunk.endsWith(' ');
  }
  return { body: result, isBlank };
}

/** UTF-16 units of the character that a byte begins. */
function unitsOf(byte: number): number {
  if ((byte & 0xc0) === 0x80) return 0;
  return byte >= 0xf0 ? 2 : 1;
}
