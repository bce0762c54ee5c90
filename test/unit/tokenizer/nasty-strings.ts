import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const REAL_TEXT: readonly (readonly string[])[] = readFileSync(
  join(__dirname, '../../fixtures/tokenizers/real-text.txt'),
  'utf8',
)
  .split('\n')
  .slice(0, -1)
  .map((line) => Array.from(line));

/** First and last code point. */
const RANGES: readonly (readonly [number, number])[] = [
  [0x20, 0x7e],
  [0x61, 0x7a],
  [0x30, 0x39],
  [0x9, 0xd],
  [0x20, 0x2f],
  [0x80, 0xac],
  [0xae, 0x24f],
  [0x300, 0x34e],
  [0x391, 0x3a1],
  [0x3a3, 0x3c9],
  [0x410, 0x44f],
  [0x5d0, 0x5ea],
  [0x621, 0x64a],
  [0x660, 0x669],
  [0x905, 0x939],
  [0x93e, 0x94d],
  [0xe01, 0xe3a],
  [0x1e00, 0x1eff],
  [0x2000, 0x200a],
  [0x2010, 0x2027],
  [0x2150, 0x2180],
  [0x2190, 0x21ff],
  [0x2460, 0x24ff],
  [0x3000, 0x3002],
  [0x3041, 0x3096],
  [0x30a1, 0x30fa],
  [0x4e00, 0x9fa5],
  [0xac00, 0xd7a3],
  [0xf900, 0xfa0d],
  [0xff01, 0xff5e],
  [0x1f600, 0x1f640],
  [0x1d400, 0x1d454],
  [0x20000, 0x200ff],
];

const FRAGMENTS: readonly string[] = [
  ' ',
  '  ',
  '   ',
  '\t',
  '\n',
  '\r\n',
  '\n\n',
  ' \n',
  '\n ',
  '\t\t ',
  '\u00a0',
  '\u3000',
  '\u2003',
  '\u0085',
  '\ufeff',
  '\u2028',
  '\u200b',
  '\u200d',
  '\u00ad',
  '\u2581',
  '\u2581\u2581',
  ' \u2581',
  "'s",
  "'T",
  "'re",
  "'VE",
  "'ll",
  "'d'",
  "''",
  '\u2019s',
  "don't",
  "I'M",
  "n't",
  ' .',
  ' ,',
  '1',
  '12',
  '123',
  '1234',
  '12345678901',
  '3.14',
  '1,000',
  '\u0663\u0664',
  '\u00bd',
  '\u2167',
  '\u00b2',
  'ABC',
  'Abc',
  'aBC',
  'ABCdef',
  '\u00c9COLE',
  '\u00e9',
  'e\u0301',
  'n\u0303o',
  'a\u0300\u0316',
  '\ufb01',
  '\ufb03',
  '\u212b',
  '\u1e9b\u0323',
  '\u0130',
  '\u0131',
  '\u017f',
  '\u00df',
  '\u1e9e',
  '\u03a3\u03a3',
  '\u01c5',
  '\uff21\uff22',
  '\uff76\uff9e',
  '\u30ac',
  '\u30ab\u3099',
  '\uac01',
  '\u1100\u1161\u11a8',
  '\u4f60\u597d',
  '\u4e16\u754c\u3002',
  '\uff0c',
  '\uff01',
  '\u3042',
  '\u043f\u0440',
  '\u0645\u0631',
  '\u064e',
  '\u0928\u092e\u0938\u094d\u0924\u0947',
  '\u0e44\u0e17\u0e22',
  '\u{1f642}',
  '\u{1f44d}\u{1f3fd}',
  '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}',
  '\u{1f1e9}\u{1f1ea}',
  '\u2764\ufe0f',
  'the',
  ' the',
  'The',
  'and',
  'tokenizer',
  'hello',
  'world',
  'unaffable',
  'internationalization',
  'GLM',
  'fox',
  'over',
  '_',
  '__',
  '-',
  '--',
  '...',
  '!',
  '!!!',
  '?',
  '/',
  '//',
  '\\',
  '\\n',
  '@',
  '#',
  '##',
  '$',
  '%',
  '&&',
  '*',
  '(',
  ')',
  '{}',
  '[]',
  '<',
  '>',
  '<>',
  '=>',
  '|',
  '||',
  '~',
  '^',
  '`',
  '"',
  ';',
  ':',
  'https://',
  '.com',
  '\u007f',
  '\u0001',
  '\u001f',
  '\ufffd',
  '\ue000',
  '__proto__',
  'constructor',
  '<0x41>',
  '[CLS]',
  '[SEP]',
  '[UNK]',
  '[MASK]',
  '<mask>',
  '<|user|>',
  '<|end|>',
  '<think>',
  'zzzqqq',
  'supercalifragilisticexpialidocious',
  'Donaudampfschifffahrtsgesellschaft',
];

/** Unsigned numbers of 32 bits (mulberry32). */
function numbersFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/** The strings of test/fixtures/tokenizers/nasty_strings.py: same seed, same strings. */
export function nastyStrings(seed: number, count: number): readonly string[] {
  const next = numbersFrom(seed);
  const pick = (n: number): number => next() % n;
  const times = (n: number, make: () => string): string => {
    let text = '';
    for (let i = 0; i < n; i += 1) text += make();
    return text;
  };
  const fragment = (): string => FRAGMENTS[pick(FRAGMENTS.length)] as string;
  const randomCharacters = (): string => {
    const few: number[] = [];
    for (let n = 1 + pick(3); n > 0; n -= 1) few.push(pick(RANGES.length));
    return times(1 + pick(40), () => {
      const [low, high] = RANGES[few[pick(few.length)] as number] as [number, number];
      return String.fromCodePoint(low + pick(high - low + 1));
    });
  };
  const real = (): string => {
    const line = REAL_TEXT[pick(REAL_TEXT.length)] as readonly string[];
    const start = pick(line.length);
    return line.slice(start, start + 1 + pick(60)).join('');
  };
  const one = (): string => {
    switch (pick(8)) {
      case 0:
        return randomCharacters();
      case 1:
        return times(1 + pick(12), fragment);
      case 2:
        return fragment().repeat(1 + pick(24));
      case 3:
        return times(1 + pick(6), () => fragment().repeat(1 + pick(4)));
      case 4:
        return real() + fragment() + randomCharacters();
      case 5:
        return fragment() + real() + fragment();
      default:
        return `${real()} ${real()}`;
    }
  };
  return Array.from({ length: count }, one);
}

/** FNV-1a over 16-bit halves. */
export function hashNumbers(values: Iterable<number>): number {
  let hash = 0x811c9dc5;
  for (const value of values) {
    hash = Math.imul(hash ^ (value & 0xffff), 0x01000193);
    hash = Math.imul(hash ^ (value >>> 16), 0x01000193);
  }
  return hash >>> 0;
}

export function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) as number);
}
