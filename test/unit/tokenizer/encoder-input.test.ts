import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeInput } from '../../../lib/tokenizer/encoder-input';
import { Tokenizer } from '../../../lib/tokenizer/tokenizer';

const fixtures = join(__dirname, '..', '..', 'fixtures', 'encoders');
const { truncated } = JSON.parse(readFileSync(join(fixtures, 'references.json'), 'utf8')) as {
  readonly truncated: Readonly<
    Record<
      string,
      readonly {
        readonly texts: readonly [string, string];
        readonly maxTokens: number;
        readonly tokens: readonly number[];
        readonly secondSegment: number;
      }[]
    >
  >;
};

function tokenizerOf(name: string): Tokenizer {
  const tokenizerJson = readFileSync(join(fixtures, 'models', name, 'tokenizer.json'), 'utf8');
  const source = {
    kind: 'huggingface',
    tokenizerJson,
    tokenizerConfig: null,
    specialTokensMap: null,
  } as const;
  return new Tokenizer(source, { vocabSize: null, contextLength: 96 });
}

describe.each(Object.entries(truncated))('pairs of %s', (name, entries) => {
  test('are cut as tokenizers cuts them, with the same token types', () => {
    const tokenizer = tokenizerOf(name);
    for (const { texts, maxTokens, tokens, secondSegment } of entries) {
      const [text, second] = texts;
      const input = encodeInput(tokenizer, { text, second, maxTokens, truncates: true });
      const place = `${text} | ${second} at ${maxTokens}`;
      expect([...input.tokens], place).toEqual(tokens);
      expect(input.secondSegment, place).toBe(secondSegment);
    }
  });
});

test('what is too long is refused with both counts unless it may be cut', () => {
  const tokenizer = tokenizerOf('bert-rerank');
  const request = { text: 'a b c', second: 'd e', maxTokens: 7, truncates: false };
  const refusal = { code: 'context_length_exceeded', details: { promptTokens: 8, contextLength: 7 } };
  expect(() => encodeInput(tokenizer, request)).toThrow(expect.objectContaining(refusal));
  expect(encodeInput(tokenizer, { ...request, maxTokens: 8 }).fullLength).toBe(8);
});

test('a limit below the special tokens cannot be met by cutting', () => {
  const tokenizer = tokenizerOf('bert-rerank');
  const request = { text: 'a', second: 'b', maxTokens: 3, truncates: true };
  expect(() => encodeInput(tokenizer, request)).toThrow(
    expect.objectContaining({ code: 'context_length_exceeded' }),
  );
});
