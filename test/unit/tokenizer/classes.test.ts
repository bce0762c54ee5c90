// Goal: the ids of the reference libraries, all of them. Method: 5,000 strings per class, nasty ones and pieces of real
// text, against hashes of the ids that tokenizers, sentencepiece and tiktoken gave (make_tokenizer_classes.py).
import { describe, expect, test } from 'vitest';
import type { GgufTokenizerSource, TokenizerSource } from '../../../lib/model/checkpoint-types';
import { makeNormalizer } from '../../../lib/tokenizer/stages/normalizer';
import { makePreTokenizer } from '../../../lib/tokenizer/stages/pre-tokenizer';
import { WHOLE_TEXT } from '../../../lib/tokenizer/stages/sentencepiece-text';
import { decodeTokens } from '../../../lib/tokenizer/stream-decoder';
import { Tokenizer } from '../../../lib/tokenizer/tokenizer';
import { readSentencePieceModel } from '../../../lib/tokenizer/vocabulary/files/sentencepiece-model';
import type { ComponentJson } from '../../../lib/tokenizer/vocabulary/tokenizer-json';
import { classFile, classSource, expectRows, hashOfStrings, strings } from './classes';
import { codePoints, hashNumbers } from './nasty-strings';
import { ggufSource, LIMITS, stringTable } from './vectors';

const build = (source: TokenizerSource) => new Tokenizer(source, LIMITS);

test('both generators make the same 5,000 strings', () => {
  expect(strings.length).toBe(5000);
  expect(hashNumbers(strings.flatMap((text) => [...codePoints(text), 0]))).toBe(hashOfStrings);
});

describe('byte-level BPE of GGUF files', () => {
  const { tokens, merges } = JSON.parse(classFile('byte-level.json').toString()) as {
    readonly tokens: readonly string[];
    readonly merges: readonly string[];
  };

  test.each([
    'glm4',
    'llama-bpe',
    'dbrx',
    'qwen2',
    'qwen35',
    'gpt-2',
    'smollm',
    'tekken',
    'gpt-4o',
    'deepseek-v3',
    'default',
    'superbpe',
    'tiny_aya',
    'bloom',
    'viking',
    'falcon',
    'deepseek-coder',
    'bailingmoe',
    'seed-coder',
    'exaone-moe',
    'minicpm5',
  ])('with the rules %s', (pre) => {
    const tokenizer = build(ggufSource({ pre, tokens: stringTable(tokens), merges: stringTable(merges) }));
    expectRows(`pre ${pre}`, (text) => tokenizer.encode(text));
  });
});

test('tiktoken ranks', () => {
  const tokenizer = build(classSource('tiktoken.model'));
  expectRows('tiktoken', (text) => tokenizer.encode(text));
});

/** The same vocabulary as the keys of a GGUF file. */
function asGguf(name: string): GgufTokenizerSource {
  const { type, vocabulary } = readSentencePieceModel(classFile(`${name}.model`), `${name}.model`);
  const { pieces, types, scores, unknownId, rules } = vocabulary;
  return ggufSource({
    model: type === 'BPE' ? 'llama' : 't5',
    tokens: stringTable(pieces),
    tokenTypes: Int32Array.from(types),
    scores,
    unknownTokenId: unknownId,
    precompiledCharsmap: rules.charsmap,
    addSpacePrefix: rules.addDummyPrefix,
    removeExtraWhitespaces: rules.removeExtraWhitespaces,
  });
}

describe.each(['sp-bpe-bytes', 'sp-bpe-rules', 'sp-bpe-symbols', 'sp-unigram', 'sp-unigram-bytes'])(
  'the SentencePiece model %s',
  (name) => {
    // User-defined symbols that look like markup are plain text unless asked for.
    const options = { parseSpecialTokens: name === 'sp-bpe-symbols' };

    test('gives the ids of sentencepiece, which decode to its text', () => {
      const tokenizer = build(classSource(`${name}.model`));
      expectRows(name, (text) => tokenizer.encode(text, options));
      const decode = (text: string) => decodeTokens(tokenizer.table, tokenizer.encode(text, options));
      expectRows(`${name} decoded`, (text) => codePoints(decode(text)));
    });
  },
);

// GGUF has no key for white space that follows words, so sp-unigram-bytes cannot be written.
test.each(['sp-bpe-bytes', 'sp-bpe-rules', 'sp-bpe-symbols', 'sp-unigram'])(
  'the SentencePiece model %s gives the same ids from a GGUF file',
  (name) => {
    const tokenizer = build(asGguf(name));
    expectRows(name, (text) => tokenizer.encode(text, { parseSpecialTokens: name === 'sp-bpe-symbols' }));
  },
);

test.each([
  'roberta',
  'unigram',
  'bert-uncased',
  'bert-cased',
  'llama-legacy',
  'llama-first',
  'llama-unknown',
  'suffixed',
  'prefixed',
  'whole-words',
])('the tokenizer.json %s gives the ids of tokenizers, which decode to its text', (name) => {
  const tokenizer = build(classSource(`${name}.json`));
  const options = { parseSpecialTokens: true };
  expectRows(name, (text) => tokenizer.encode(text, options));
  expectRows(`${name} decoded`, (text) =>
    codePoints(decodeTokens(tokenizer.table, tokenizer.encode(text, options), { skipSpecialTokens: false })),
  );
});

describe('components of tokenizer.json', () => {
  const components = JSON.parse(classFile('components.json').toString()) as readonly {
    readonly role: 'normalizer' | 'pre_tokenizer';
    readonly component: ComponentJson;
    readonly name: string;
  }[];

  test.each(
    components.map(
      ({ role, component, name }) => [name, JSON.stringify(component), role, component] as const,
    ),
  )('%s %s', (name, _, role, component) => {
    if (role === 'normalizer') {
      const normalize = makeNormalizer(component);
      expectRows(name, (text) => codePoints(normalize?.(text, WHOLE_TEXT) ?? ''));
      return;
    }
    const cut = makePreTokenizer(component);
    expectRows(name, (text) => {
      const words: string[] = [];
      cut?.(text, true, words);
      return codePoints(words.join('\0'));
    });
  });
});
