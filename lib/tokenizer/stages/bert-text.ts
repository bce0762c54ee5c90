import type { ComponentJson } from '../vocabulary/tokenizer-json';

const CONTROL = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/u;
const NONSPACING_MARKS = /\p{Mn}+/gu;
const MARKS = /\p{M}+/gu;
/** Blocks of Chinese characters, by first and last code point. */
const CHINESE: readonly (readonly [number, number])[] = [
  [0x4e00, 0x9fff],
  [0x3400, 0x4dbf],
  [0x20000, 0x2a6df],
  [0x2a700, 0x2b73f],
  [0x2b740, 0x2b81f],
  [0x2b920, 0x2ceaf],
  [0xf900, 0xfaff],
  [0x2f800, 0x2fa1f],
];

const isChinese = (code: number): boolean => CHINESE.some(([first, last]) => code >= first && code <= last);

/** One character at a time: a sigma at the end of a word is an ordinary one, as in the reference. */
export function lowercase(text: string): string {
  if (!text.includes('\u03a3')) return text.toLowerCase();
  return Array.from(text, (character) => character.toLowerCase()).join('');
}

/** StripAccents of a tokenizer.json: marks of every kind. */
export function removeMarks(text: string): string {
  return text.replace(MARKS, '');
}

/** BertNormalizer of a tokenizer.json. Stripping accents goes with lowercasing unless the file says otherwise. */
export function bertNormalizer(component: ComponentJson): (text: string) => string {
  const cleans = component.clean_text !== false;
  const spacesChinese = component.handle_chinese_chars !== false;
  const lowers = component.lowercase !== false;
  const strips = typeof component.strip_accents === 'boolean' ? component.strip_accents : lowers;
  return (text) => {
    let result = cleans ? cleanText(text) : text;
    if (spacesChinese) result = spaceChinese(result);
    if (strips) result = result.normalize('NFD').replace(NONSPACING_MARKS, '');
    return lowers ? lowercase(result) : result;
  };
}

/** Other control characters are dropped even where they are white space. */
function cleanText(text: string): string {
  let result = '';
  for (const character of text) {
    if (/[\t\n\r]/.test(character)) result += ' ';
    else if (character === '\ufffd' || CONTROL.test(character)) continue;
    else result += /\p{White_Space}/u.test(character) ? ' ' : character;
  }
  return result;
}

function spaceChinese(text: string): string {
  let result = '';
  for (const character of text) {
    result += isChinese(character.codePointAt(0) as number) ? ` ${character} ` : character;
  }
  return result;
}
