import { describe, expect, test } from 'vitest';
import type { TokenizerSource } from '../../../lib/model/checkpoint-types';
import { decodeTokens } from '../../../lib/tokenizer/stream-decoder';
import { Tokenizer } from '../../../lib/tokenizer/tokenizer';
import {
  byteLevelGguf,
  byteLevelJson,
  ggufSource,
  LIMITS,
  sentencePieceGguf,
  stringTable,
  vectors,
} from './vectors';

const build = (source: TokenizerSource, vocabSize: number | null = null) =>
  new Tokenizer(source, { ...LIMITS, vocabSize });
const json = (tokenizerJson: string): TokenizerSource => ({
  kind: 'huggingface',
  tokenizerJson,
  tokenizerConfig: null,
  specialTokensMap: null,
});
const refusal = (code: string, ...words: string[]) =>
  expect.objectContaining({
    code,
    message: expect.stringMatching(new RegExp(words.map((word) => `(?=[\\s\\S]*${word})`).join(''))),
  });

const BPE = { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: [['a', 'b']] };
const BYTES = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
const tiny = (changes: object) =>
  json(JSON.stringify({ model: BPE, pre_tokenizer: BYTES, decoder: { type: 'ByteLevel' }, ...changes }));

test('the smallest tokenizer.json works', () => {
  expect([...build(tiny({})).encode('abb')]).toEqual([2, 1]);
});

test('a run of unknown characters is one unknown token where the file says so', () => {
  const model = { ...BPE, unk_token: 'u', vocab: { ...BPE.vocab, u: 3 }, fuse_unk: true };
  const changes = { pre_tokenizer: null, decoder: { type: 'Metaspace' } };
  expect([...build(tiny({ ...changes, model })).encode('axyzbx')]).toEqual([0, 3, 1, 3]);
  const unfused = { ...model, fuse_unk: false };
  expect([...build(tiny({ ...changes, model: unfused })).encode('axyb')]).toEqual([0, 3, 3, 1]);
});

test.each<[string, TokenizerSource, ...string[]]>([
  ['no JSON', json('{'), 'JSON'],
  ['no object', json('[]'), 'JSON object'],
  ['no model', tiny({ model: null }), 'model', 'an object'],
  ['a vocabulary that is a list', tiny({ model: { ...BPE, vocab: ['a'] } }), 'model.vocab'],
  ['a negative id', tiny({ model: { ...BPE, vocab: { a: -1 } } }), 'vocab', '-1'],
  ['a fractional id', tiny({ model: { ...BPE, vocab: { a: 0.5 } } }), 'vocab', '0.5'],
  ['an id beyond all tables', tiny({ model: { ...BPE, vocab: { a: 2 ** 31 } } }), 'vocab', '2147483648'],
  ['an id twice', tiny({ model: { ...BPE, vocab: { a: 0, b: 0, ab: 1 } } }), '"b"', 'differ'],
  ['a merge of unknown pieces', tiny({ model: { ...BPE, merges: [['a', 'c']] } }), 'merge 0', '"a" "c"'],
  ['a merge to an unknown piece', tiny({ model: { ...BPE, merges: [['b', 'a']] } }), 'merge 0', '"b" "a"'],
  ['a merge of three', tiny({ model: { ...BPE, merges: ['a b c'] } }), 'merges\\[0\\]', 'a b c'],
  ['an added token without content', tiny({ added_tokens: [{ id: 3 }] }), 'added_tokens\\[0\\]'],
  ['a component that is text', tiny({ decoder: 'ByteLevel' }), 'decoder', 'an object'],
])('%s is an invalid file', (_, source, ...words) => {
  expect(() => build(source)).toThrowError(refusal('invalid_model_file', ...words));
});

test.each<[string, TokenizerSource, ...string[]]>([
  ['a model of an unknown type', tiny({ model: { type: 'Foo', vocab: {} } }), 'Foo', 'WordPiece'],
  ['dropout', tiny({ model: { ...BPE, dropout: 0.1 } }), 'dropout'],
  ['an unknown normalizer', tiny({ normalizer: { type: 'Foo' } }), 'Foo', 'NFC'],
  ['an unknown pre-tokenizer', tiny({ pre_tokenizer: { type: 'Foo' } }), 'Foo', 'ByteLevel'],
  [
    'an unknown pre-tokenizer in a sequence',
    tiny({
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [{ type: 'Sequence', pretokenizers: [{ type: 'Foo' }] }],
      },
    }),
    'Foo',
  ],
  [
    'an unknown way to split',
    tiny({ pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'Foo', invert: false } }),
    'Foo',
    'Isolated',
  ],
  [
    'a split without a pattern',
    tiny({ pre_tokenizer: { type: 'Split', behavior: 'Isolated' } }),
    'Split',
    'Regex',
  ],
  ['an unknown decoder', tiny({ decoder: { type: 'CTC' } }), 'CTC', 'ByteLevel'],
  [
    'a decoder that takes more than a space away',
    tiny({ decoder: { type: 'Sequence', decoders: [{ type: 'Strip', content: 'x', start: 2, stop: 0 }] } }),
    'Strip',
  ],
  ['an unknown post-processor', tiny({ post_processor: { type: 'Foo' } }), 'Foo', 'TemplateProcessing'],
  [
    'an unknown pre-tokenizer name',
    byteLevelGguf('smollm', { pre: 'kimi-k2' }),
    'kimi-k2',
    'smollm',
    'qwen2',
  ],
  [
    'a GGUF vocabulary of another type',
    ggufSource({ model: 'rwkv' }),
    '"rwkv"',
    'gpt2',
    'llama',
    'bert',
    't5',
  ],
])('%s is refused by name, with what is supported', (_, source, ...words) => {
  expect(() => build(source)).toThrowError(refusal('unsupported_model', ...words));
});

describe('regular expressions from a file', () => {
  const split = (pattern: string) =>
    tiny({
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
          BYTES,
        ],
      },
    });

  test.each<[string, ...string[]]>([
    ['a'.repeat(4097), '4097 characters'],
    ['(a', 'not closed'],
    ['a)', 'not open'],
    ['[a', 'not closed'],
    ['*a', 'repeats nothing'],
    ['a{1025}', '0\\.\\.1024'],
    ['((((a{200}){200}){200}){200})', 'too large'],
    [`${'('.repeat(100)}a${')'.repeat(100)}`, 'nested'],
    ['(?>a|ab)c', 'group'],
    ['(?(1)a|b)', 'group'],
    ['(a)\\1', '1'],
    ['a\\Gb', 'G is not'],
    [Array.from({ length: 17 }, (_, i) => `(?=a{${i + 2}})`).join(''), 'more than 16'],
    ['(?:ab)++', 'possessively'],
    ['\\p{Klingon}', 'Klingon'],
    ['[b-a]', 'range'],
    ['a\\', 'backslash'],
  ])('%s is refused with the reason', (pattern, ...reason) => {
    expect(() => build(split(pattern))).toThrowError(refusal('unsupported_model', 'pattern', ...reason));
  });

  // Matchers that backtrack take exponential time on these.
  test.each([
    '(a+)+$',
    '(?:a*)*',
    '((ab)+c)*',
    '((a+)b)*',
    '(?:a|b+){2,}',
    '(x+x+)+y',
    '(a|a)*b',
    '(a|b)*a(a|b){12}c',
    '(?=(a+)+$)a|b',
    '(?<=(x+x+)+)x',
    '(?=(a|b)*a(a|b){12}c)a',
    '(?<=(?=(?<=(a|b)*a(a|b){12})b)a)b|a',
  ])('%s takes a bounded number of steps', (pattern) => {
    const tokenizer = build(split(pattern));
    for (const text of ['a'.repeat(20_000), 'ab'.repeat(10_000), 'x'.repeat(20_000)]) {
      let ids: number[] = [];
      try {
        ids = [...tokenizer.encode(text)];
      } catch (error) {
        expect(error).toMatchObject({
          code: 'invalid_parameter',
          message: expect.stringMatching(/steps|cannot express/),
        });
        continue;
      }
      expect(ids.length).toBeGreaterThan(0);
    }
  });
});

describe('faults of GGUF vocabularies', () => {
  const { tokens, merges } = vectors.byteLevel;

  test.each<[string, TokenizerSource, ...string[]]>([
    ['no merges', byteLevelGguf('smollm', { merges: null }), 'tokenizer.ggml.merges'],
    ['no scores', sentencePieceGguf({ scores: null }), 'tokenizer.ggml.scores'],
    ['a token twice', byteLevelGguf('smollm', { tokens: stringTable([...tokens, '!']) }), '"!"', 'differ'],
    [
      'a merge without a space',
      byteLevelGguf('smollm', { merges: stringTable(['ab']) }),
      'merges\\[0\\]',
      '"ab"',
    ],
    [
      'a merge with nothing after it',
      byteLevelGguf('smollm', { merges: stringTable(['a ']) }),
      'merges\\[0\\]',
    ],
    ['a merge of unknown pieces', byteLevelGguf('smollm', { merges: stringTable(['xq zz']) }), 'merge 0'],
  ])('%s', (_, source, ...words) => {
    expect(() => build(source)).toThrowError(refusal('invalid_model_file', ...words));
  });

  test('more tokens than the model has rows', () => {
    expect(() => build(byteLevelGguf('smollm'), tokens.length - 1)).toThrowError(
      refusal('invalid_model_file', String(tokens.length - 1)),
    );
  });

  test('unused and empty tokens stand for no text', () => {
    const padded = [...tokens, '', '', '[PAD1]'];
    const types = new Int32Array(padded.length).fill(1);
    types[padded.length - 1] = 5;
    const source = byteLevelGguf('smollm', {
      tokens: stringTable(padded),
      tokenTypes: types,
      merges: stringTable(merges),
    });
    const { table } = build(source, padded.length + 3);
    expect(
      decodeTokens(table, [tokens.length, tokens.length + 1, tokens.length + 2, padded.length + 2]),
    ).toBe('');
  });
});

test('pieces named like properties of objects are ordinary', () => {
  const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
  const { tokens } = vectors.byteLevel;
  const types = new Int32Array(tokens.length + names.length).fill(1);
  types.fill(4, tokens.length);
  const tokenizer = build(
    byteLevelGguf('smollm', { tokens: stringTable([...tokens, ...names]), tokenTypes: types }),
  );
  const ids = [...tokenizer.encode(names.join(' '))];
  for (const i of names.keys()) expect(ids).toContain(tokens.length + i);
  expect(decodeTokens(tokenizer.table, ids)).toBe(names.join(' '));
});

test('tokens without a row in the model are not used', () => {
  const rows = vectors.byteLevel.tokens.length;
  const tokenizer = build(byteLevelJson('smollm', { post_processor: null }), rows);
  expect(Math.max(...tokenizer.encode('<|im_end|>', { parseSpecialTokens: true }))).toBeLessThan(rows);
});

test('a token around every text without a row in the model is refused', () => {
  const rows = vectors.byteLevel.tokens.length;
  expect(() => build(byteLevelJson('smollm'), rows)).toThrowError(
    refusal('invalid_model_file', 'post-processor', String(rows)),
  );
});

test('the llama 3 rules put the beginning-of-text token first, the others do not', () => {
  const first = (pre: string, addBosToken: boolean | null) => {
    const { tokens } = vectors.byteLevel;
    const types = new Int32Array(tokens.length + 1).fill(1);
    types[tokens.length] = 3;
    const all = stringTable([...tokens, '<bos>']);
    const source = byteLevelGguf(pre, {
      tokens: all,
      tokenTypes: types,
      bosTokenId: tokens.length,
      addBosToken,
    });
    return build(source).encode('a', { addSpecialTokens: true })[0] === tokens.length;
  };
  expect(first('llama-bpe', null)).toBe(true);
  expect(first('llama-bpe', false)).toBe(false);
  expect(first('qwen2', null)).toBe(false);
  expect(first('qwen2', true)).toBe(true);
});
