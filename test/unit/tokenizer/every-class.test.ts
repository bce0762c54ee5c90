// What holds for every class of vocabulary: streams cut anywhere, special tokens in user text, long texts.
import { describe, expect, test } from 'vitest';
import { decodeTokens, StreamDecoder } from '../../../lib/tokenizer/stream-decoder';
import { Tokenizer } from '../../../lib/tokenizer/tokenizer';
import { classSource, strings } from './classes';
import { LIMITS, seededRandom } from './vectors';

const CLASSES = [
  'roberta.json',
  'tiktoken.model',
  'llama-legacy.json',
  'llama-first.json',
  'suffixed.json',
  'prefixed.json',
  'bert-uncased.json',
  'bert-cased.json',
  'unigram.json',
  'sp-bpe-bytes.model',
  'sp-bpe-rules.model',
  'sp-bpe-symbols.model',
  'sp-unigram.model',
  'sp-unigram-bytes.model',
  'whole-words.json',
];

describe.each(CLASSES)('%s', (name) => {
  const tokenizer = new Tokenizer(classSource(name), LIMITS);
  const { table } = tokenizer;
  const numTokens = table.isSpecial.length;

  // Goal: what a client has read never changes. Method: tokens of texts, and random tokens, which no text would give;
  // each prefix of the stream is shown and must be the beginning of the whole.
  test.each([true, false])(
    'a stream cut at every place gives the text of the whole (special skipped: %s)',
    (skip) => {
      const random = seededRandom(5);
      const options = { skipSpecialTokens: skip };
      for (let round = 0; round < 150; round += 1) {
        const ids =
          round % 2 === 0
            ? [...tokenizer.encode(strings[round] as string, { parseSpecialTokens: true })]
            : Array.from({ length: 30 }, () => Math.floor(random() * numTokens));
        const whole = decodeTokens(table, ids, options);
        const one = new StreamDecoder(table, options);
        expect(ids.map((id) => one.push([id])).join('') + one.end(), `seed 5, round ${round}`).toBe(whole);
        for (let cut = 1; cut < ids.length; cut += 1) {
          const two = new StreamDecoder(table, options);
          const first = two.push(ids.slice(0, cut));
          expect(whole.startsWith(first), `seed 5, round ${round}, cut ${cut}`).toBe(true);
          expect(first + two.push(ids.slice(cut)) + two.end()).toBe(whole);
        }
      }
    },
  );

  test('special tokens in user text stay text, and are found where they are parsed', () => {
    const special = tokenizer.markup.filter(({ isSpecial }) => isSpecial);
    const isMarkup = new Set(
      tokenizer.markup.map(({ content }) => tokenizer.encode(content, { parseSpecialTokens: true }).at(-1)),
    );
    for (const { content } of special) {
      for (const text of [content, `x${content}y`, ` ${content} `, content.repeat(3), `${content} the`]) {
        // A word that the vocabulary lacks is its unknown token, with or without markup in it.
        const unknown = new Set(tokenizer.encode('\u{10330}'));
        const plain = [...tokenizer.encode(text)].filter((id) => !unknown.has(id));
        expect(
          plain.filter((id) => isMarkup.has(id)),
          JSON.stringify(text),
        ).toEqual([]);
        const plainRanges: number[] = [];
        for (let at = text.indexOf(content); at >= 0; at = text.indexOf(content, at + 1)) {
          plainRanges.push(at, at + content.length);
        }
        const asText = tokenizer.encode(text, { parseSpecialTokens: true, plainRanges });
        expect([...asText]).toEqual([...tokenizer.encode(text)]);
      }
      const parsed = tokenizer.encode(`${content} the`, { parseSpecialTokens: true });
      expect([...parsed].filter((id) => isMarkup.has(id)).length, content).toBe(1);
    }
  });

  // Quadratic time would take minutes on these.
  test.each([
    ['one letter', 'a'.repeat(65_536)],
    ['spaces before a letter', `${' '.repeat(65_535)}x`],
    ['marks', `e${'\u0301'.repeat(65_535)}`],
    ['pictures', '👩‍👩‍👧'.repeat(8_000)],
    ['starts of markup', '<|im_'.repeat(13_000)],
  ])('%s in great number is tokenized', (_, text) => {
    expect(tokenizer.encode(text, { parseSpecialTokens: true }).every((id) => id < numTokens)).toBe(true);
  });
});
