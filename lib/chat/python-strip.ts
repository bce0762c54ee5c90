/** What Python's str.strip() without an argument removes: unlike JavaScript U+001C..U+001F and U+0085, not U+FEFF. */
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** Python's strip, lstrip and rstrip. `characters` are removed one by one, in any order. */
export const PYTHON_STRIP: Readonly<Record<string, (text: string, characters: string | null) => string>> = {
  strip: (text, characters) => trimEnd(trimStart(text, characters), characters),
  lstrip: trimStart,
  rstrip: trimEnd,
};

function trimStart(text: string, characters: string | null): string {
  let start = 0;
  while (start < text.length && isRemoved(text[start] as string, characters)) start += 1;
  return text.slice(start);
}

function trimEnd(text: string, characters: string | null): string {
  let end = text.length;
  while (end > 0 && isRemoved(text[end - 1] as string, characters)) end -= 1;
  return text.slice(0, end);
}

function isRemoved(character: string, characters: string | null): boolean {
  return characters === null ? WHITE_SPACE.test(character) : characters.includes(character);
}
