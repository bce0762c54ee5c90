/** White space as Unicode has it; JavaScript's own trim takes U+FEFF for it and not U+0085. */
const SPACE_AT_START = /^\p{White_Space}+/u;
const SPACE = /\p{White_Space}/u;

export function trimStart(text: string): string {
  return text.replace(SPACE_AT_START, '');
}

/** By hand: an expression that looks for the end would try every run of white space. */
export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && SPACE.test(text[end - 1] as string)) end -= 1;
  return text.slice(0, end);
}
