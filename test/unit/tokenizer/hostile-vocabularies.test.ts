// Files that are broken or made to do harm: one typed error each, before memory is taken.
import { describe, expect, test } from 'vitest';
import { AutoglmError } from '../../../lib/errors';
import type { TokenizerSource } from '../../../lib/model/checkpoint-types';
import { Tokenizer } from '../../../lib/tokenizer/tokenizer';
import { classFile, classSource } from './classes';
import { ggufSource, LIMITS, seededRandom, stringTable } from './vectors';

const build = (source: TokenizerSource, vocabSize: number | null = null) =>
  new Tokenizer(source, { ...LIMITS, vocabSize });
const model = (content: Uint8Array): TokenizerSource => ({
  kind: 'tokenizer-model',
  fileName: 'tokenizer.model',
  content,
  tokenizerConfig: null,
  specialTokensMap: null,
  addedTokens: null,
});
const json = (object: unknown): TokenizerSource => ({
  kind: 'huggingface',
  tokenizerJson: JSON.stringify(object),
  tokenizerConfig: null,
  specialTokensMap: null,
});
const refused = (code: string, ...words: string[]) =>
  expect.objectContaining({
    code,
    message: expect.stringMatching(new RegExp(words.map((word) => `(?=[\\s\\S]*${word})`).join(''))),
  });

/** A field of a protobuf message: text, bytes or a number. */
function field(number: number, value: string | Uint8Array | number): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(8 * number), varint(value)]);
  const bytes = Buffer.from(value as string);
  return Buffer.concat([varint(8 * number + 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

const float = (number: number, value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(8 * number + 5), bytes]);
};
const piece = (text: string, type: number, score = 0): Buffer =>
  field(1, Buffer.concat([field(1, text), float(2, score), field(3, type)]));
const UNKNOWN = piece('<unk>', 2);

describe('SentencePiece models', () => {
  test('the smallest one works', () => {
    const bytes = Buffer.concat([UNKNOWN, piece('\u2581a', 1, -1)]);
    expect([...build(model(bytes)).encode('a')]).toEqual([1]);
  });

  test.each<[string, Buffer, ...string[]]>([
    ['an empty file', Buffer.alloc(0), 'pieces', 'none'],
    ['no unknown piece', piece('a', 1), 'type unknown'],
    ['a length beyond the end', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x7f, 0x00]), 'at most 1 bytes'],
    ['a varint without an end', Buffer.from(Array(12).fill(0xff)), '10 bytes'],
    ['a varint cut off', Buffer.from([0x0a, 0x80]), 'end of the message'],
    ['an unknown wire type', Buffer.from([0x0b]), 'wire type'],
    ['field number 0', Buffer.from([0x02, 0x00]), '1 or more'],
    ['a piece that is a number', field(1, 7), 'bytes', 'varint'],
    ['a piece that is no UTF-8', field(1, field(1, Buffer.from([0xff]))), 'UTF-8'],
    ['a type out of range', Buffer.concat([UNKNOWN, piece('a', 9)]), '1\\.\\.6', '9'],
    ['a score that is no number', Buffer.concat([UNKNOWN, piece('a', 1, Number.NaN)]), 'finite', 'NaN'],
    ['an infinite score', Buffer.concat([UNKNOWN, piece('a', 1, Number.POSITIVE_INFINITY)]), 'finite'],
    ['a piece twice', Buffer.concat([UNKNOWN, piece('a', 1), piece('a', 1)]), '"a"', 'differ'],
    ['a charsmap without a trie', Buffer.concat([UNKNOWN, field(3, field(2, 'x'))]), 'charsmap', 'trie'],
    [
      'a charsmap whose trie is longer than it',
      Buffer.concat([UNKNOWN, field(3, field(2, Buffer.from([0xfc, 0xff, 0xff, 0xff, 0, 0, 0, 0])))]),
      'charsmap',
      '4294967292',
    ],
    [
      'a charsmap that replaces by what lies beyond it',
      Buffer.concat([UNKNOWN, field(3, field(2, Buffer.from([4, 0, 0, 0, 9, 0, 0, 0x80, 0x41, 0])))]),
      'charsmap',
      'one at 9',
    ],
    [
      'a charsmap that never ends a text',
      Buffer.concat([UNKNOWN, field(3, field(2, Buffer.from([4, 0, 0, 0, 0, 0, 0, 0x80, 0x41])))]),
      'charsmap',
      'NUL',
    ],
    [
      'a charsmap that replaces by a long text',
      Buffer.concat([
        UNKNOWN,
        field(
          3,
          field(
            2,
            Buffer.concat([Buffer.from([4, 0, 0, 0, 0, 0, 0, 0x80]), Buffer.alloc(500, 65), Buffer.alloc(1)]),
          ),
        ),
      ]),
      'charsmap',
      '500',
    ],
  ])('%s is an invalid file', (_, bytes, ...words) => {
    expect(() => build(model(bytes))).toThrowError(refused('invalid_model_file', ...words));
  });

  test('a word model is refused by name', () => {
    const bytes = Buffer.concat([UNKNOWN, field(2, field(3, 3))]);
    expect(() => build(model(bytes))).toThrowError(refused('unsupported_model', 'word', 'BPE', 'Unigram'));
  });

  // Method: the file cut at seeded places and with seeded bytes changed; anything but a typed error fails.
  test('damage gives a typed error or a tokenizer that works', () => {
    const whole = classFile('sp-bpe-rules.model');
    const random = seededRandom(23);
    const pick = (n: number) => Math.floor(random() * n);
    for (let round = 0; round < 200; round += 1) {
      const bytes = Buffer.from(round % 2 === 0 ? whole.subarray(0, pick(whole.length)) : whole);
      for (let i = 0; i < 3 && round % 2 === 1; i += 1) bytes[pick(bytes.length)] = pick(256);
      try {
        build(model(bytes)).encode('The quick ABC fox. GLM');
      } catch (error) {
        expect(AutoglmError.is(error), `seed 23, round ${round}: ${error}`).toBe(true);
      }
    }
  });
});

describe('tiktoken ranks', () => {
  const lines = classFile('tiktoken.model').toString().split('\n');
  const ranks = (changed: readonly string[]) => model(Buffer.from(changed.join('\n')));

  test.each<[string, readonly string[], ...string[]]>([
    ['no rank', ['IQ== 0', 'Ig=='], 'line 2', 'a rank'],
    ['a rank beyond all tables', ['IQ== 0', 'Ig== 9999999'], 'line 2', '9999999'],
    ['a rank twice', ['IQ== 0', 'Ig== 0'], 'line 2', 'differ'],
    ['bytes twice', ['IQ== 0', 'IQ== 1'], 'line 2', 'differ'],
    ['no base64', ['IQ== 0', '#! 1'], 'line 2'],
    ['bytes missing', lines.slice(1, 50), 'single bytes'],
  ])('%s is an invalid file', (_, changed, ...words) => {
    expect(() => build(ranks(changed))).toThrowError(refused('invalid_model_file', ...words));
  });
});

const BPE = { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: [['a', 'b']] };
const steps = (count: number, step: object) => ({ type: 'Sequence', normalizers: Array(count).fill(step) });

test.each<[string, object, ...string[]]>([
  ['too many components', { model: BPE, normalizer: steps(65, { type: 'NFC' }) }, 'components', '66'],
  [
    'components nested without end',
    {
      model: BPE,
      normalizer: JSON.parse(`${'{"type":"Sequence","normalizers":['.repeat(20)}${']}'.repeat(20)}`),
    },
    'deep',
  ],
  [
    'a replacement that swells the text',
    { model: BPE, normalizer: { type: 'Replace', pattern: { String: 'a' }, content: 'a'.repeat(100) } },
    'content',
    '100',
  ],
  [
    'a charsmap that is no base64',
    { model: BPE, normalizer: { type: 'Precompiled', precompiled_charsmap: '!' } },
    'base64',
  ],
  [
    'an unknown id beyond the pieces',
    { model: { type: 'Unigram', vocab: [['a', -1]], unk_id: 1 } },
    'unk_id',
    '1',
  ],
  ['a piece without a score', { model: { type: 'Unigram', vocab: [['a']] } }, 'vocab\\[0\\]'],
  [
    'words of no length',
    { model: { type: 'WordPiece', vocab: { a: 0 }, max_input_chars_per_word: 0 } },
    'max_input_chars_per_word',
  ],
  [
    'a template without a text',
    { model: BPE, post_processor: { type: 'TemplateProcessing', single: [] } },
    'single',
  ],
  [
    'a template with an unknown token',
    {
      model: BPE,
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: 'x' } }, { Sequence: {} }],
      },
    },
    '"x"',
  ],
])('%s is an invalid file', (_, object, ...words) => {
  expect(() => build(json(object))).toThrowError(refused('invalid_model_file', ...words));
});

test('a token as long as a text is refused', () => {
  const vocab = { ...BPE.vocab, ['x'.repeat(1025)]: 3 };
  expect(() => build(json({ model: { ...BPE, vocab } }))).toThrowError(
    refused('unsupported_model', '1025', '1024'),
  );
});

test('normalizers that swell the text step by step are stopped', () => {
  const double = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
  const tokenizer = build(json({ model: BPE, normalizer: steps(60, double) }));
  expect(() => tokenizer.encode('a'.repeat(1000))).toThrowError(refused('invalid_parameter', '32 times'));
});

test.each(['unigram.json', 'bert-cased.json', 'llama-first.json', 'sp-unigram.model', 'tiktoken.model'])(
  '%s with more tokens than the model has rows is refused',
  (name) => {
    expect(() => build(classSource(name), 500)).toThrowError(
      refused('invalid_model_file', 'vocabulary size 500'),
    );
  },
);

test('scores of a GGUF vocabulary that are no numbers are refused', () => {
  const source = ggufSource({
    model: 't5',
    tokens: stringTable(['<unk>', 'a']),
    tokenTypes: Int32Array.of(2, 1),
    scores: Float32Array.of(0, Number.NaN),
    unknownTokenId: 0,
  });
  expect(() => build(source)).toThrowError(refused('invalid_model_file', 'NaN'));
});
