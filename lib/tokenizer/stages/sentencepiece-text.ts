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

const MARK = '\u2581';

/**
 * Brings a text to the form that the pieces of a SentencePiece model are written in: characters replaced by the charsmap,
 * runs of spaces made one and those at both ends dropped, a space put before the text, spaces written as U+2581.
 * A text that goes on after another one gets no space put before it and keeps the ones it begins with.
 */
export function sentencePieceText(text: string, rules: SentencePieceRules, continues: boolean): string {
  if (text === '') return '';
  const mark = rules.escapeWhitespaces ? MARK : ' ';
  let body = replaceAll(text, rules);
  if (rules.removeExtraWhitespaces) {
    body = body.replace(/ +/g, ' ');
    if (!continues && body.startsWith(' ')) body = body.slice(1);
    if (body === '') return '';
    if (body.endsWith(' ')) body = body.slice(0, -1);
  }
  if (rules.escapeWhitespaces) body = body.replaceAll(' ', MARK);
  if (!rules.addDummyPrefix || continues) return body;
  return rules.treatWhitespaceAsSuffix ? body + mark : mark + body;
}

function replaceAll(text: string, { charsmap, userDefined }: SentencePieceRules): string {
  if (charsmap === null) return text;
  const bytes = new TextEncoder().encode(text);
  let result = '';
  let unit = 0;
  for (let i = 0; i < bytes.length; ) {
    const symbol = userDefined?.longestAt(text, unit, text.length, () => true) ?? null;
    const found = symbol === null ? charsmap.longestAt(bytes, i, bytes.length) : null;
    if (found === null) {
      const kept = symbol ?? String.fromCodePoint(text.codePointAt(unit) as number);
      result += kept;
      unit += kept.length;
      i += Buffer.byteLength(kept);
      continue;
    }
    result += found.text;
    for (const end = i + found.length; i < end; i += 1) unit += unitsOf(bytes[i] as number);
  }
  return result;
}

/** UTF-16 units of the character that a byte begins. */
function unitsOf(byte: number): number {
  if ((byte & 0xc0) === 0x80) return 0;
  return byte >= 0xf0 ? 2 : 1;
}
