import { describe, expect, test } from 'vitest';
import { decodeTokens, StreamDecoder } from '../../../lib/tokenizer/stream-decoder';
import type { TokenTable } from '../../../lib/tokenizer/token-table';
import { Tokenizer } from '../../../lib/tokenizer/tokenizer';
import { byteLevelGguf, LIMITS, sentencePieceGguf, vectors } from './vectors';

/** One token per byte value. */
const BYTES: TokenTable = {
  bytes: Uint8Array.from({ length: 256 }, (_, i) => i),
  offsets: Uint32Array.from({ length: 257 }, (_, i) => i),
  isSpecial: new Uint8Array(256),
  numLeadingSpaces: 0,
  hasTrailingSpace: false,
};

function decodeIn(table: TokenTable, parts: readonly (readonly number[])[]): string {
  const decoder = new StreamDecoder(table);
  return parts.map((part) => decoder.push(part)).join('') + decoder.end();
}

test('bytes decode as in Python, whole and cut at every place', () => {
  for (const { bytes, text } of vectors.utf8) {
    expect(decodeTokens(BYTES, bytes), bytes.join(' ')).toBe(text);
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      expect(
        decodeIn(BYTES, [bytes.slice(0, cut), bytes.slice(cut)]),
        `${bytes.join(' ')} cut at ${cut}`,
      ).toBe(text);
    }
    expect(
      decodeIn(
        BYTES,
        bytes.map((byte) => [byte]),
      ),
      `${bytes.join(' ')} byte by byte`,
    ).toBe(text);
  }
});

test('part of a character is never emitted', () => {
  const text = 'aé€🙂👩‍👧\u0301z';
  const decoder = new StreamDecoder(BYTES);
  let emitted = '';
  for (const byte of Buffer.from(text)) {
    emitted += decoder.push([byte]);
    expect(text.startsWith(emitted)).toBe(true);
  }
  expect(emitted + decoder.end()).toBe(text);
});

test('a character that never becomes complete ends as U+FFFD, once', () => {
  const decoder = new StreamDecoder(BYTES);
  expect(decoder.push([0x61, 0xf0, 0x9f, 0x99])).toBe('a');
  expect(decoder.end()).toBe('\ufffd');
  expect(decoder.end()).toBe('');
});

describe.each([
  ['byte-level', new Tokenizer(byteLevelGguf('smollm'), LIMITS), vectors.texts],
  ['SentencePiece', new Tokenizer(sentencePieceGguf(), LIMITS), vectors.sentencePiece.texts],
])('tokens of a %s vocabulary', (_, tokenizer, texts) => {
  test('give the same text however they are cut', () => {
    for (const text of texts) {
      const ids = [...tokenizer.encode(text)];
      const whole = decodeTokens(tokenizer.table, ids);
      expect(
        decodeIn(
          tokenizer.table,
          ids.map((id) => [id]),
        ),
        JSON.stringify(text),
      ).toBe(whole);
      for (let cut = 1; cut < ids.length; cut += 1) {
        expect(decodeIn(tokenizer.table, [ids.slice(0, cut), ids.slice(cut)])).toBe(whole);
      }
    }
  });
});

test('the space before the first word of a SentencePiece text is dropped, and kept when a text goes on', () => {
  const { table, encode } = bind(new Tokenizer(sentencePieceGguf(), LIMITS));
  const ids = encode('fox  jumps');
  expect(decodeTokens(table, ids)).toBe('fox  jumps');
  expect(decodeTokens(table, ids, { continuesText: true })).toBe(' fox  jumps');
  const beginning = vectors.sentencePiece.tokens.indexOf('<s>');
  expect(decodeIn(table, [[beginning], ids])).toBe('fox  jumps');
});

test('special tokens are left out unless wanted', () => {
  const isSpecial = new Uint8Array(256);
  isSpecial[0x2a] = 1;
  const table = { ...BYTES, isSpecial };
  expect(decodeTokens(table, [0x61, 0x2a, 0x62])).toBe('ab');
  expect(decodeTokens(table, [0x61, 0x2a, 0x62], { skipSpecialTokens: false })).toBe('a*b');
});

test('a special token inside a character does not break it', () => {
  const isSpecial = new Uint8Array(256);
  isSpecial[0x2a] = 1;
  expect(decodeTokens({ ...BYTES, isSpecial }, [0xc3, 0x2a, 0xa9])).toBe('é');
});

test.each([-1, 256, 1.5, Number.NaN])('the token id %d is refused', (id) => {
  expect(() => decodeTokens(BYTES, [id])).toThrowError(
    expect.objectContaining({ code: 'invalid_parameter' }),
  );
});

function bind(tokenizer: Tokenizer) {
  return { table: tokenizer.table, encode: (text: string) => [...tokenizer.encode(text)] };
}
