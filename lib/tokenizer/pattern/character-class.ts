import { patternFault } from './pattern-fault';

export const WORD_CLASS = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe]';

/**
 * Character classes of Oniguruma (Ruby syntax, Unicode), written as classes of JavaScript's `v` mode. `\s` is the property
 * White_Space, which JavaScript's own `\s` is not; `\w` and `\d` are Unicode's, with Latin-1's superscripts and fractions as
 * word characters.
 */
const CLASS_ESCAPES: Readonly<Record<string, string>> = {
  s: '\\p{White_Space}',
  S: '\\P{White_Space}',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: WORD_CLASS,
  W: '[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe]',
  h: '[0-9A-Fa-f]',
  H: '[^0-9A-Fa-f]',
};

const CONTROL_ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  f: '\f',
  v: '\v',
  a: '\u0007',
  e: '\u001b',
};

const NAMED_CLASSES: Readonly<Record<string, string>> = {
  alnum: '[\\p{Alphabetic}\\p{Nd}]',
  alpha: '\\p{Alphabetic}',
  blank: '[\\p{Zs}\\t]',
  cntrl: '\\p{Cc}',
  digit: '\\p{Nd}',
  lower: '\\p{Lowercase}',
  punct: '[\\p{P}$+<=>^`\\|~]',
  space: '\\p{White_Space}',
  upper: '\\p{Uppercase}',
  word: WORD_CLASS,
  xdigit: '[0-9A-Fa-f]',
};

/** Escapes a character for use inside a `v` mode class. */
export function classLiteral(character: string): string {
  return `\\u{${(character.codePointAt(0) as number).toString(16)}}`;
}

/** What stands for one character: its class text, and the character itself unless it is a class. */
export interface CharacterItem {
  readonly source: string;
  readonly literal: string | null;
  /** Index after it. */
  readonly end: number;
}

const literalItem = (character: string, end: number): CharacterItem => ({
  source: classLiteral(character),
  literal: character,
  end,
});

/** Reads the escape whose backslash is at `start`; null for escapes that stand for no single character. */
export function readEscape(pattern: string, start: number): CharacterItem | null {
  const letter = pattern[start + 1];
  if (letter === undefined) throw patternFault(pattern, 'it ends in a backslash');
  const known = CLASS_ESCAPES[letter];
  if (known !== undefined) return { source: known, literal: null, end: start + 2 };
  const control = CONTROL_ESCAPES[letter];
  if (control !== undefined) return literalItem(control, start + 2);
  if (letter === 'p' || letter === 'P') return readProperty(pattern, start);
  if (letter === 'x' || letter === 'u') return readHexadecimal(pattern, start);
  if (/[A-Za-z0-9]/.test(letter)) return null;
  const character = String.fromCodePoint(pattern.codePointAt(start + 1) as number);
  return literalItem(character, start + 1 + character.length);
}

function readHexadecimal(pattern: string, start: number): CharacterItem {
  const match = /^\\(?:x\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4}))/.exec(
    pattern.slice(start, start + 10),
  );
  const code = Number.parseInt(match?.[1] ?? match?.[2] ?? match?.[3] ?? '', 16);
  if (match === null || !(code <= 0x10ffff)) throw patternFault(pattern, 'a code point is not readable');
  return literalItem(String.fromCodePoint(code), start + match[0].length);
}

function readProperty(pattern: string, start: number): CharacterItem {
  const match = /^\\([pP])(?:\{(\^?)([A-Za-z_ -]{1,40})\}|([A-Z]))/.exec(pattern.slice(start, start + 48));
  if (match === null) throw patternFault(pattern, 'a property has no name');
  const [text, letter, caret, long, short] = match as unknown as [string, string, string, string, string];
  const name = long ?? short;
  const isNegated = (letter === 'P') !== (caret === '^');
  const source = propertyClass(pattern, name);
  return { source: isNegated ? `[^${source}]` : source, literal: null, end: start + text.length };
}

function propertyClass(pattern: string, name: string): string {
  const named = NAMED_CLASSES[name.toLowerCase()];
  if (named !== undefined) return named;
  for (const candidate of [`\\p{${name}}`, `\\p{Script=${name}}`]) {
    try {
      new RegExp(candidate, 'v');
      return candidate;
    } catch {
      // Not a property under that spelling: the next one decides.
    }
  }
  throw patternFault(pattern, `the property ${name} is not known`);
}

const MAX_CLASS_DEPTH = 16;

/** Reads the class whose bracket is at `start`. */
export function readClass(pattern: string, start: number, depth = 0): CharacterItem {
  if (depth > MAX_CLASS_DEPTH) throw patternFault(pattern, 'its classes are nested too deep');
  let i = start + 1;
  const isNegated = pattern[i] === '^';
  if (isNegated) i += 1;
  // `&&` joins weaker than anything else: operands are collected and intersected.
  const operands: string[] = [];
  let source = '';
  for (let isFirst = true; ; isFirst = false) {
    const character = pattern[i];
    if (character === undefined) throw patternFault(pattern, 'a class is not closed');
    if (character === ']' && !isFirst) break;
    if (pattern.startsWith('&&', i)) {
      operands.push(`[${source}]`);
      source = '';
      i += 2;
      continue;
    }
    const item = readClassItem(pattern, i, depth);
    const range = item.literal === null ? null : readRangeEnd(pattern, item.end, item.literal);
    source += range === null ? item.source : `${item.source}-${range.source}`;
    i = range?.end ?? item.end;
  }
  operands.push(`[${source}]`);
  const all = operands.length === 1 ? source : operands.join('&&');
  return { source: `[${isNegated ? '^' : ''}${all}]`, literal: null, end: i + 1 };
}

function readClassItem(pattern: string, start: number, depth: number): CharacterItem {
  const character = pattern[start] as string;
  if (character === '[') {
    const posix = /^\[:(\^?)([a-z]+):\]/.exec(pattern.slice(start, start + 16));
    const named = NAMED_CLASSES[posix?.[2] ?? ''];
    if (posix !== null && named !== undefined) {
      const source = posix[1] === '^' ? `[^${named}]` : named;
      return { source, literal: null, end: start + posix[0].length };
    }
    return readClass(pattern, start, depth + 1);
  }
  if (character !== '\\') {
    const whole = String.fromCodePoint(pattern.codePointAt(start) as number);
    return literalItem(whole, start + whole.length);
  }
  const item = readEscape(pattern, start);
  if (item !== null) return item;
  if (pattern[start + 1] === 'b') return literalItem('\b', start + 2);
  throw patternFault(pattern, `\\${pattern[start + 1]} is not supported in a class`);
}

/** The end of a range whose `-` is at `start`, or null when there is no range. */
function readRangeEnd(pattern: string, start: number, low: string): CharacterItem | null {
  if (pattern[start] !== '-' || pattern[start + 1] === ']' || pattern[start + 1] === '[') return null;
  if (pattern[start + 1] === undefined) return null;
  const high = readClassItem(pattern, start + 1, 0);
  if (high.literal === null) return null;
  if ((high.literal.codePointAt(0) as number) >= (low.codePointAt(0) as number)) return high;
  throw patternFault(pattern, 'a range ends before it begins');
}
