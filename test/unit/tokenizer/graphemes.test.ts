import { expect, test } from 'vitest';
import { GraphemeCutter } from '../../../lib/tokenizer/stages/graphemes';
import { strings } from './classes';

// Reference: the Unicode library of the host, which takes quadratic time and so serves for short texts only.
test('texts are cut where Intl.Segmenter cuts them', () => {
  const cutter = new GraphemeCutter();
  const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });
  const hard = [
    'e\u0301\u0316x',
    '\r\n\n\r',
    '👩‍👩‍👧👍🏽',
    '🇩🇪🇫🇷🇮',
    '각\u1100\u1161\u11a8\u11a8가\u1161\u11a8',
    '각\u1161',
    '\u0600a\u0600\n',
    'กำ',
    '\u102b\u1038',
    '\u{e0020}x',
    '©\u200d®',
  ];
  for (const text of [...hard, ...strings]) {
    // Devanagari conjuncts, which newer rules keep together.
    if (/\u094d[\u0900-\u097f]/.test(text)) continue;
    const found = cutter.cut(text);
    const pieces = Array.from({ length: found.length / 2 }, (_, i) =>
      text.slice(found[2 * i], found[2 * i + 1]),
    );
    expect(pieces, JSON.stringify(text)).toEqual(
      Array.from(segmenter.segment(text), ({ segment }) => segment),
    );
  }
});
