import { describe, expect, test } from 'vitest';
import { decodeTokens } from '../../../lib/tokenizer/stream-decoder';
import { type EncodeOptions, Tokenizer } from '../../../lib/tokenizer/tokenizer';
import {
  byteLevelGguf,
  byteLevelJson,
  LIMITS,
  type PreVectors,
  seededRandom,
  sentencePieceGguf,
  stringTable,
  vectors,
} from './vectors';

const all = { skipSpecialTokens: false } as const;

describe.each(Object.keys(vectors.byteLevel.pres))('pre-tokenizer %s', (pre) => {
  const reference = vectors.byteLevel.pres[pre] as PreVectors;

  test('a tokenizer.json gives the ids of the reference, special tokens parsed', () => {
    const tokenizer = new Tokenizer(byteLevelJson(pre), LIMITS);
    for (const [i, text] of vectors.texts.entries()) {
      const ids = tokenizer.encode(text, { addSpecialTokens: true, parseSpecialTokens: true });
      expect([...ids], JSON.stringify(text)).toEqual(reference.parsed[i]);
    }
  });

  test('a GGUF vocabulary gives the ids of the reference on plain text', () => {
    const tokenizer = new Tokenizer(byteLevelGguf(pre), LIMITS);
    for (const [i, text] of vectors.texts.entries()) {
      expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(reference.plain[i]);
    }
  });

  test('every text comes back from its tokens', () => {
    const tokenizer = new Tokenizer(byteLevelGguf(pre), LIMITS);
    for (const text of vectors.texts)
      expect(decodeTokens(tokenizer.table, tokenizer.encode(text))).toBe(text);
  });
});

test('a normalizer is applied before the text is cut', () => {
  const source = byteLevelJson('qwen2', { normalizer: { type: 'NFC' } });
  const tokenizer = new Tokenizer(source, LIMITS);
  for (const [i, text] of vectors.texts.entries()) {
    const ids = tokenizer.encode(text, { parseSpecialTokens: true });
    expect([...ids], JSON.stringify(text)).toEqual(vectors.byteLevel.nfc[i]);
  }
});

// Goal: any text of characters survives. Method: seeded random code points, the whole range without surrogates.
test('random text comes back from its tokens, special tokens parsed or not', () => {
  const tokenizer = new Tokenizer(byteLevelJson('llama-bpe'), LIMITS);
  const random = seededRandom(11);
  for (let round = 0; round < 300; round += 1) {
    const characters = Array.from({ length: Math.floor(random() * 40) }, () => {
      const code = Math.floor(random() * (random() < 0.5 ? 0x250 : 0x110000));
      return code >= 0xd800 && code <= 0xdfff ? '<|im_end|>' : String.fromCodePoint(code);
    });
    const text = characters.join('');
    for (const parseSpecialTokens of [false, true]) {
      const ids = tokenizer.encode(text, { parseSpecialTokens });
      expect(decodeTokens(tokenizer.table, ids, all), `seed 11, round ${round}`).toBe(text);
    }
  }
});

describe('SentencePiece vocabularies of GGUF files', () => {
  const { texts, ids, decoded } = vectors.sentencePiece;
  const tokenizer = new Tokenizer(sentencePieceGguf(), LIMITS);

  test('give the ids of sentencepiece', () => {
    for (const [i, text] of texts.entries()) {
      expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(ids[i]);
    }
  });

  test('decode as sentencepiece does, without the space before the first word', () => {
    for (const [i, row] of ids.entries()) {
      expect(decodeTokens(tokenizer.table, row), JSON.stringify(texts[i])).toBe(decoded[i]);
    }
  });

  test('put the beginning-of-text token first unless the file says otherwise', () => {
    const [first, ...rest] = tokenizer.encode('a', { addSpecialTokens: true });
    expect(first).toBe(1);
    expect(rest).toEqual([...tokenizer.encode('a')]);
    const without = new Tokenizer(sentencePieceGguf({ addBosToken: false, addEosToken: true }), LIMITS);
    expect([...without.encode('a', { addSpecialTokens: true })]).toEqual([...tokenizer.encode('a'), 2]);
  });

  test('have one unknown token for a run of unknown characters when there are no bytes', () => {
    const types = Int32Array.from(vectors.sentencePiece.types, (type) => (type === 6 ? 5 : type));
    const { encode } = bind(new Tokenizer(sentencePieceGguf({ tokenTypes: types }), LIMITS));
    expect(encode('fox\u{1f9ff}\u{1f9fe}')).toEqual([...encode('fox'), 0]);
  });

  test('spell unknown characters in bytes', () => {
    const row = tokenizer.encode('\u{1f9ff}');
    expect([...row].slice(-4).map((id) => vectors.sentencePiece.tokens[id])).toEqual([
      '<0xF0>',
      '<0x9F>',
      '<0xA7>',
      '<0xBF>',
    ]);
  });
});

describe('special tokens in text', () => {
  const tokenizer = new Tokenizer(byteLevelJson('smollm'), LIMITS);
  const { added_tokens } = vectors.byteLevel.pres.smollm as PreVectors;
  const markup = added_tokens.filter(({ content }) => content.startsWith('<'));
  const idOf = (content: string) => added_tokens.find((token) => token.content === content)?.id;

  test('are plain text unless asked for', () => {
    for (const { content, id } of markup) {
      expect([...tokenizer.encode(`x${content}y`)], content).not.toContain(id);
      expect([...tokenizer.encode(`x${content}y`, { parseSpecialTokens: true })], content).toContain(id);
    }
  });

  test('are plain text where the caller says so, and only there', () => {
    const text = '<|im_start|>a<|im_start|>';
    const start = '<|im_start|>'.length;
    const ids = [
      ...tokenizer.encode(text, { parseSpecialTokens: true, plainRanges: [start + 1, text.length] }),
    ];
    expect(ids[0]).toBe(idOf('<|im_start|>'));
    expect(ids.slice(1)).toEqual([...tokenizer.encode('a<|im_start|>')]);
  });

  test('are plain text when a plain range covers only a part of them', () => {
    const text = '<|im_end|>';
    for (let start = 0; start < text.length; start += 1) {
      const ids = tokenizer.encode(text, { parseSpecialTokens: true, plainRanges: [start, start + 1] });
      expect([...ids], `range at ${start}`).toEqual([...tokenizer.encode(text)]);
    }
  });

  test.each(['gpt-2', 'llama-bpe'])(
    'cannot be made of plain text though the vocabulary spells them (%s)',
    (pre) => {
      const { tokens, merges } = vectors.byteLevel;
      const all = [...tokens, 'qz', 'qzv'];
      const id = all.length - 1;
      const types = new Int32Array(all.length).fill(1);
      types[id] = 3;
      const source = byteLevelGguf(pre, {
        tokens: stringTable(all),
        tokenTypes: types,
        merges: stringTable(['q z', 'qz v', ...merges]),
      });
      const { table, encode } = bind(new Tokenizer(source, LIMITS));
      expect(encode('qzv')).toEqual([id - 1, tokens.indexOf('v')]);
      expect(decodeTokens(table, encode('qzv'))).toBe('qzv');
      expect(encode('qzv', { parseSpecialTokens: true })).toEqual([id]);
    },
  );
});

describe('text that cannot be tokenized', () => {
  const tokenizer = new Tokenizer(byteLevelGguf('smollm'), LIMITS);

  test.each([
    ['a\ud800b', 1],
    ['\udc00', 0],
    ['ok \ud83d', 3],
    ['\ude42\ud83d', 0],
  ])('a lone surrogate is refused with its index: %j', (text, index) => {
    expect(() => tokenizer.encode(text)).toThrowError(
      expect.objectContaining({ code: 'invalid_parameter', details: { index } }),
    );
  });

  test('NUL is text', () => {
    expect(decodeTokens(tokenizer.table, tokenizer.encode('a\u0000b'))).toBe('a\u0000b');
  });

  test('text up to the limit is tokenized, one character more is not', () => {
    const { maxTextLength } = tokenizer.limit;
    expect(maxTextLength).toBe(65_536);
    expect(tokenizer.encode(' a'.repeat(maxTextLength / 2)).length).toBeGreaterThan(0);
    expect(() => tokenizer.encode('a'.repeat(maxTextLength + 1))).toThrowError(
      expect.objectContaining({ code: 'invalid_parameter' }),
    );
  });

  test('text that cannot fit the context is refused with counts', () => {
    const { longestToken, contextLength } = tokenizer.limit;
    const length = longestToken * contextLength + 1;
    expect(() => tokenizer.encode('a'.repeat(length))).toThrowError(
      expect.objectContaining({
        code: 'context_length_exceeded',
        details: { length, maxTextLength: 65_536, contextLength },
      }),
    );
  });

  test('a character the vocabulary has no bytes for is refused, not dropped', () => {
    const { tokens, merges } = vectors.byteLevel;
    // U+0004 is the byte-alphabet character of byte 4.
    const lacking = tokens.map((token) => (token === '\u0104' ? '[none]' : token));
    const source = byteLevelGguf('smollm', {
      tokens: stringTable(lacking),
      merges: stringTable(merges.filter((merge) => !merge.includes('\u0104'))),
    });
    expect(() => new Tokenizer(source, LIMITS).encode('ab\u0004')).toThrowError(
      expect.objectContaining({ code: 'invalid_parameter', details: { character: 'U+0004' } }),
    );
  });

  // Quadratic time would take minutes on these.
  test.each([
    ['one letter', 'a'.repeat(65_536)],
    ['spaces before a letter', `${' '.repeat(65_535)}x`],
    ['starts of special tokens', '<|im_'.repeat(13_000)],
    ['combining marks', `e${'\u0301'.repeat(65_535)}`],
    ['newlines and spaces', ' \n'.repeat(32_768)],
    ['quotes', "'".repeat(65_536)],
  ])('%s in great number is tokenized and comes back', (_, text) => {
    const tokenizer = new Tokenizer(byteLevelJson('llama-bpe'), LIMITS);
    const ids = tokenizer.encode(text, { parseSpecialTokens: true });
    expect(decodeTokens(tokenizer.table, ids, all) === text).toBe(true);
  });
});

function bind(tokenizer: Tokenizer) {
  return {
    table: tokenizer.table,
    encode: (text: string, options?: EncodeOptions) => [...tokenizer.encode(text, options)],
  };
}
