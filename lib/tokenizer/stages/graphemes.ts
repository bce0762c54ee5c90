import { PatternMatcher } from '../pattern/pattern-matcher';

/** Hangul syllables that end in a vowel: every 28th. */
const OPEN_SYLLABLES = String.fromCodePoint(...Array.from({ length: 399 }, (_, i) => 0xac00 + 28 * i));

/** Marks of class Mc that begin a cluster of their own. */
const SEPARATE =
  '\\x{102b}\\x{102c}\\x{1038}\\x{1062}-\\x{1064}\\x{1067}-\\x{106d}\\x{1083}\\x{1087}-\\x{108c}\\x{108f}' +
  '\\x{109a}-\\x{109c}\\x{1a61}\\x{1a63}\\x{1a64}\\x{aa7b}\\x{aa7d}\\x{11720}\\x{11721}';
const PREPEND =
  '\\x{600}-\\x{605}\\x{6dd}\\x{70f}\\x{890}\\x{891}\\x{8e2}\\x{d4e}\\x{110bd}\\x{110cd}\\x{111c2}\\x{111c3}';
const EXTEND = '\\p{Grapheme_Extend}\\p{Emoji_Modifier}';
const FOLLOWS = `[${EXTEND}\\x{200d}[\\p{Mc}\\x{e33}\\x{eb3}&&[^${SEPARATE}]]]`;
const CONTROL = `[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}&&[^\\x{200d}${PREPEND}${EXTEND}]]`;
const VOWEL = '[\\x{1160}-\\x{11a7}]';
const FINAL = '[\\x{11a8}-\\x{11ff}]';
const HANGUL = `[\\x{1100}-\\x{115f}]*(?:${VOWEL}+|[${OPEN_SYLLABLES}]${VOWEL}*|[\\x{ac00}-\\x{d7a3}])${FINAL}*|[\\x{1100}-\\x{115f}]+`;
const PICTURE = '\\p{Extended_Pictographic}';
const CORE = `(?:\\p{RI}\\p{RI}|${HANGUL}|${PICTURE}(?:[${EXTEND}]*\\x{200d}${PICTURE})*|[^${CONTROL}])`;

/**
 * What a reader takes for one character: extended grapheme clusters. Intl.Segmenter takes quadratic time for long texts.
 * Without the rule for Indic conjuncts (GB9c): those take 6 bytes at least, and no normalization looks at such as a whole.
 * Source: Unicode Standard Annex 29, "Unicode text segmentation", table 1c.
 */
export class GraphemeCutter {
  readonly #matcher = new PatternMatcher(`\\r\\n|[${PREPEND}]*${CORE}${FOLLOWS}*|[\\x{0}-\\x{10ffff}]`);

  /** Start and end of each, flat. */
  cut(text: string): number[] {
    return this.#matcher.matches(text);
  }
}
