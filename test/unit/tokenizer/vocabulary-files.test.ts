// Vocabularies without a tokenizer.json: what the files leave to the code of a tokenizer class is right here too.
import { describe, expect, test } from 'vitest';
import type { JsonObject, TokenizerModelSource, TokenizerSource } from '../../../lib/model/checkpoint-types';
import { encodeInput } from '../../../lib/tokenizer/encoder-input';
import { decodeTokens } from '../../../lib/tokenizer/stream-decoder';
import { Tokenizer } from '../../../lib/tokenizer/tokenizer';
import { classFile, expectRows } from './classes';
import { ggufSource, LIMITS, stringTable } from './vectors';

const build = (source: TokenizerSource) => new Tokenizer(source, LIMITS);
const settings = (tokenizerConfig: JsonObject | null) => ({
  tokenizerConfig,
  specialTokensMap: null,
  addedTokens: null,
});
const model = (
  name: string,
  tokenizerConfig: JsonObject | null,
  fileName = 'tokenizer.model',
): TokenizerModelSource => ({
  kind: 'tokenizer-model',
  fileName,
  content: classFile(name),
  ...settings(tokenizerConfig),
});
const parsed = { parseSpecialTokens: true } as const;

describe('GLM-4: ranks and the special tokens of its own code', () => {
  const tokenizer = build(model('tiktoken.model', { tokenizer_class: 'ChatGLM4Tokenizer' }));
  const numRanks = classFile('tiktoken.model').toString().trim().split('\n').length;

  test('they follow the ranks in their order', () => {
    const text = '<|endoftext|>[MASK][gMASK][sMASK]<sop><eop><|system|><|user|><|assistant|><|observation|>';
    expect([...tokenizer.encode(text, parsed)]).toEqual(Array.from({ length: 10 }, (_, i) => numRanks + i));
    expect(decodeTokens(tokenizer.table, [numRanks + 13], { skipSpecialTokens: false })).toBe(
      '<|end_of_video|>',
    );
    expect(tokenizer.table.isSpecial.slice(numRanks)).toEqual(new Uint8Array(14).fill(1));
  });

  test('a text begins with [gMASK] <sop>', () => {
    const ids = [...tokenizer.encode('hello', { addSpecialTokens: true })];
    expect(ids.slice(0, 2)).toEqual([numRanks + 2, numRanks + 4]);
    expect(ids.slice(2)).toEqual([...tokenizer.encode('hello')]);
  });

  test('tokenizer_config.json may name others, which are special only if it says so', () => {
    const added_tokens_decoder = {
      [numRanks]: { content: '<|endoftext|>', special: true },
      [numRanks + 14]: { content: '<think>', special: false },
    };
    const { encode, table, markup } = bind(build(model('tiktoken.model', { added_tokens_decoder })));
    expect(encode('<think>', parsed)).toEqual([numRanks + 14]);
    expect(encode('<think>')).not.toContain(numRanks + 14);
    expect(table.isSpecial[numRanks + 14]).toBe(0);
    expect(markup).toContainEqual({ content: '<think>', isSpecial: false });
  });

  test.each<[string, JsonObject]>([
    ['an id that is none', { added_tokens_decoder: { x: { content: 'a' } } }],
    ['an id beyond all tables', { added_tokens_decoder: { 99999999: { content: 'a' } } }],
    ['a token without a text', { added_tokens_decoder: { 7: {} } }],
    ['a list', { added_tokens_decoder: [] }],
  ])('%s is an invalid file', (_, config) => {
    expect(() => build(model('tiktoken.model', config))).toThrowError(
      expect.objectContaining({ code: 'invalid_model_file' }),
    );
  });
});

describe('ChatGLM3: a SentencePiece model and the special tokens of its own code', () => {
  const tokenizer = build(model('sp-bpe-bytes.model', { tokenizer_class: 'ChatGLMTokenizer' }));
  const plain = build(model('sp-bpe-bytes.model', null));
  const numPieces = plain.table.isSpecial.length;

  test('they follow the pieces in their order', () => {
    const text = '[MASK][gMASK][sMASK]sopeop<|system|><|user|><|assistant|><|observation|>';
    expect([...tokenizer.encode(text, parsed)]).toEqual(Array.from({ length: 9 }, (_, i) => numPieces + i));
  });

  test('a turn is its role, then its text with the space that SentencePiece puts before it', () => {
    const [mask, sop, user, assistant] = [1, 3, 6, 7].map((i) => numPieces + i);
    const ids = tokenizer.encode('<|user|>\n 你好<|assistant|>', { addSpecialTokens: true, ...parsed });
    expect([...ids]).toEqual([mask, sop, user, ...plain.encode('\n 你好'), assistant]);
  });

  test('role marks and sop in user text are text', () => {
    const ids = tokenizer.encode('sop <|user|> eop');
    expect(ids.every((id) => id < numPieces)).toBe(true);
    expect(decodeTokens(tokenizer.table, ids)).toBe('sop <|user|> eop');
  });
});

// Method: the pieces that sentencepiece cuts, with the ids that transformers' class gives them.
describe.each([
  ['XLMRobertaTokenizer', 'sentencepiece.bpe.model', 'sp-unigram.model', 'xlm-roberta'],
  ['T5Tokenizer', 'spiece.model', 'sp-t5.model', 't5'],
])('%s in a %s', (tokenizer_class, fileName, file, rows) => {
  const { special, around, pair } = JSON.parse(classFile('piece-classes.json').toString())[rows] as {
    readonly special: Readonly<Record<string, number>>;
    readonly around: readonly number[];
    readonly pair: readonly number[];
  };
  const tokenizer = build(model(file, { tokenizer_class }, fileName));

  test('gives the ids of its class', () => {
    expectRows(rows, (text) => tokenizer.encode(text));
    for (const [content, id] of Object.entries(special)) {
      expect([...tokenizer.encode(content, parsed)], content).toEqual([id]);
    }
  });

  test('puts the tokens of its class around a text and between two', () => {
    expect([...tokenizer.encode('the fox', { addSpecialTokens: true })]).toEqual(around);
    const request = { text: 'the fox', second: 'a b', maxTokens: 99, truncates: false };
    expect([...encodeInput(tokenizer, request).tokens]).toEqual(pair);
  });

  test('is known by the name of the file alone', () => {
    const named = build(model(file, null, fileName));
    expect(named.encode('the fox [x]', parsed)).toEqual(tokenizer.encode('the fox [x]', parsed));
  });

  test('is refused by name where it is another', () => {
    expect(() => build(model(file, { tokenizer_class: 'AlbertTokenizer' }, fileName))).toThrowError(
      expect.objectContaining({
        code: 'unsupported_model',
        message: expect.stringMatching(/AlbertTokenizer.*T5Tokenizer/),
      }),
    );
  });
});

test('an XLM-R model that begins with other pieces is an invalid file', () => {
  expect(() => build(model('sp-t5.model', null, 'sentencepiece.bpe.model'))).toThrowError(
    expect.objectContaining({ code: 'invalid_model_file', message: expect.stringContaining('"<pad>"') }),
  );
});

test('T5 models that have their sentinels among their pieces get no others', () => {
  const withSentinel = model('sp-t5.model', { added_tokens_decoder: {}, extra_ids: 0 }, 'spiece.model');
  const numPieces = build(withSentinel).table.isSpecial.length;
  expect(build(model('sp-t5.model', null, 'spiece.model')).table.isSpecial.length).toBe(numPieces + 100);
});

test('a Llama model begins texts with BOS, and with EOS after them where its config says so', () => {
  const ids = (config: JsonObject) => [
    ...build(model('sp-bpe-bytes.model', config)).encode('a', { addSpecialTokens: true }),
  ];
  const inner = ids({ add_bos_token: false });
  expect(ids({})).toEqual([1, ...inner]);
  expect(ids({ add_eos_token: true })).toEqual([1, ...inner, 2]);
});

describe('WordPiece', () => {
  const { model: json } = JSON.parse(classFile('bert-uncased.json').toString()) as {
    readonly model: { readonly vocab: Readonly<Record<string, number>> };
  };
  const pieces = Object.entries(json.vocab)
    .sort(([, a], [, b]) => a - b)
    .map(([piece]) => piece);
  const around = ['[CLS]', '[SEP]'].map((piece) => pieces.indexOf(piece));

  test.each<[string, TokenizerSource]>([
    [
      'vocab.txt',
      { kind: 'word-list', pieces: `${pieces.join('\n')}\n`, ...settings({ do_lower_case: true }) },
    ],
    [
      'a GGUF file',
      ggufSource({
        model: 'bert',
        tokens: stringTable(
          pieces.map((piece) => {
            if (/^\[[A-Z]+\]$/.test(piece)) return piece;
            return piece.startsWith('##') ? piece.slice(2) : `\u2581${piece}`;
          }),
        ),
        tokenTypes: Int32Array.from(pieces, (piece) => (/^\[[A-Z]+\]$/.test(piece) ? 3 : 1)),
        unknownTokenId: pieces.indexOf('[UNK]'),
        separatorTokenId: pieces.indexOf('[SEP]'),
      }),
    ],
  ])('of %s gives the ids of tokenizers', (_, source) => {
    const tokenizer = build(source);
    expectRows('bert-uncased', (text) => tokenizer.encode(text, parsed));
    const ids = tokenizer.encode('the fox', { addSpecialTokens: true });
    expect([ids[0], ids.at(-1)]).toEqual(around);
  });

  test('of vocab.txt keeps capitals where the config says so', () => {
    const { model: cased } = JSON.parse(classFile('bert-cased.json').toString()) as {
      readonly model: typeof json;
    };
    const lines: string[] = [];
    for (const [piece, id] of Object.entries(cased.vocab)) lines[id] = piece;
    const tokenizer = build({
      kind: 'word-list',
      pieces: lines.join('\n'),
      ...settings({ do_lower_case: false }),
    });
    expectRows('bert-cased', (text) => tokenizer.encode(text, parsed));
  });

  test('with a piece twice is an invalid file', () => {
    expect(() => build({ kind: 'word-list', pieces: '[UNK]\na\na', ...settings(null) })).toThrowError(
      expect.objectContaining({ code: 'invalid_model_file', message: expect.stringContaining('line 3') }),
    );
  });
});

describe('vocab.json and merges.txt', () => {
  const { tokens, merges } = JSON.parse(classFile('byte-level.json').toString()) as {
    readonly tokens: readonly string[];
    readonly merges: readonly string[];
  };
  const files = (tokenizerConfig: JsonObject | null, lines = merges): TokenizerSource => ({
    kind: 'merges',
    vocabulary: JSON.stringify(Object.fromEntries(tokens.map((token, id) => [token, id]))),
    merges: `#version: 0.2\n${lines.join('\n')}\n`,
    ...settings(tokenizerConfig),
  });

  test('give the ids of tokenizers', () => {
    const tokenizer = build(files({ tokenizer_class: 'GPT2Tokenizer' }));
    expectRows('pre gpt-2', (text) => tokenizer.encode(text));
  });

  test('put the named tokens of RoBERTa around a text', () => {
    const config = { tokenizer_class: 'RobertaTokenizer', cls_token: 'hello', sep_token: '123' };
    const ids = build(files(config)).encode('fox', { addSpecialTokens: true });
    expect([ids[0], ids.at(-1)]).toEqual([tokens.indexOf('hello'), tokens.indexOf('123')]);
    const [cls, sep] = ['hello', '123'].map((token) => tokens.indexOf(token));
    expect(build(files(config)).pairTemplate).toEqual({
      prefix: [cls],
      between: [sep, sep],
      suffix: [sep],
      hasSecondType: false,
    });
  });

  test('of an unknown class are refused by name', () => {
    expect(() => build(files({ tokenizer_class: 'FooTokenizer' }))).toThrowError(
      expect.objectContaining({
        code: 'unsupported_model',
        message: expect.stringContaining('"FooTokenizer"'),
      }),
    );
  });

  test.each([
    ['three pieces', ['a b c']],
    ['a piece that the vocabulary lacks', ['zzzz b']],
  ])('with a merge of %s are an invalid file', (_, lines) => {
    expect(() => build(files(null, lines))).toThrowError(
      expect.objectContaining({ code: 'invalid_model_file' }),
    );
  });
});

function bind(tokenizer: Tokenizer) {
  const encode = (text: string, options?: Parameters<Tokenizer['encode']>[1]) => [
    ...tokenizer.encode(text, options),
  ];
  return { encode, table: tokenizer.table, markup: tokenizer.markup };
}
