import type {
  JsonObject,
  MergesTokenizerSource,
  TokenizerModelSource,
  WordListTokenizerSource,
} from '../../../model/checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../../../model/model-file-error';
import { textTemplate } from '../boundary-tokens';
import { makeMerges, readVocabulary } from '../model-json';
import { tokenText } from '../named-tokens';
import { preTokenizerOf, SINGLE_DIGITS, UP_TO_THREE_DIGITS } from '../pre-tokenizer-rules';
import { type AddedTokenJson, type ComponentJson, GPT2_WORDS, type TokenizerJson } from '../tokenizer-json';
import { addedTokensOf, boolean, byContent, classOf, type FileSource } from './class-settings';
import { sentencePieceJson } from './sentencepiece-json';
import { consecutiveTokens, GLM4_SPECIAL_TOKENS } from './special-tokens';
import { isTiktokenRanks, readTiktokenRanks } from './tiktoken-ranks';

/** Vocabularies in the files of single tokenizer classes, as tokenizer.json objects. What such a file leaves to the code of its class comes from tokenizer_config.json. */
export function fileTokenizerJson(source: FileSource): TokenizerJson {
  switch (source.kind) {
    case 'tokenizer-model':
      return isTiktokenRanks(source.content) ? tiktokenJson(source) : sentencePieceJson(source);
    case 'merges':
      return mergesJson(source);
    case 'word-list':
      return wordListJson(source);
  }
}

/** GLM-4's ranks: other checkpoints with such a file have a tokenizer.json too. */
function tiktokenJson(source: TokenizerModelSource): TokenizerJson {
  const model = readTiktokenRanks(source.content);
  let largest = 0;
  for (const id of model.vocab.values()) largest = Math.max(largest, id);
  const added = addedTokensOf(source, consecutiveTokens(GLM4_SPECIAL_TOKENS, largest + 1));
  return {
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: preTokenizerOf({ patterns: [UP_TO_THREE_DIGITS] }),
    post_processor: textTemplate(byContent(added, ['[gMASK]', '<sop>']), undefined),
    decoder: { type: 'ByteLevel' },
    model,
  };
}

interface ByteLevelClass {
  readonly pattern: string;
  readonly normalizer: ComponentJson | null;
  /** Named tokens around a text. */
  readonly around: readonly [string, string] | null;
}

const GPT2: ByteLevelClass = { pattern: GPT2_WORDS, normalizer: null, around: null };
/** What classes with vocab.json and merges.txt do besides merging. */
const BYTE_LEVEL_CLASSES: ReadonlyMap<string, ByteLevelClass> = new Map([
  ['', GPT2],
  ['GPT2Tokenizer', GPT2],
  ['Qwen2Tokenizer', { pattern: SINGLE_DIGITS, normalizer: { type: 'NFC' }, around: null }],
  ['RobertaTokenizer', { ...GPT2, around: ['cls_token', 'sep_token'] }],
]);

function mergesJson(source: MergesTokenizerSource): TokenizerJson {
  const { tokenizerConfig: config, specialTokensMap } = source;
  const name = classOf(config);
  const rules = BYTE_LEVEL_CLASSES.get(name);
  if (rules === undefined) {
    throw unsupportedModel(
      'tokenizer_config.json',
      `a tokenizer of class ${quoted(name)} without tokenizer.json`,
      [...BYTE_LEVEL_CLASSES.keys()].filter((key) => key !== ''),
      'Save the tokenizer once with transformers, which writes tokenizer.json.',
    );
  }
  const vocab = readVocabulary(parseJson('vocab.json', source.vocabulary));
  const lines = source.merges.split(/\r?\n/).filter((line) => line !== '' && !line.startsWith('#version'));
  const pairs = lines.map((line, i): [string, string] => {
    const [left, right, ...more] = line.split(' ');
    if (left && right && more.length === 0) return [left, right];
    throw fault('merges.txt', `merge ${i}`, 'two pieces with a space between them', quoted(line));
  });
  const named = (key: string) => tokenText(config, key) ?? tokenText(specialTokensMap, key);
  const inVocabulary = specialsOf(vocab, [config, specialTokensMap]);
  const added = addedTokensOf(source, inVocabulary);
  const [first, last] = (rules.around ?? []).map((key) =>
    added.find(({ content }) => content === named(key)),
  );
  const bos = boolean(config, 'add_bos_token') === true ? named('bos_token') : null;
  return {
    added_tokens: added,
    normalizer: rules.normalizer,
    pre_tokenizer: preTokenizerOf({ patterns: [rules.pattern] }),
    post_processor: textTemplate(first ?? added.find(({ content }) => content === bos), last, last),
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab,
      merges: makeMerges(vocab, pairs),
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      userDefined: [],
      unused: new Set(),
    },
  };
}

/** Named special tokens that are pieces of the vocabulary. */
function specialsOf(
  vocab: ReadonlyMap<string, number>,
  maps: readonly (JsonObject | null)[],
): AddedTokenJson[] {
  const added = new Map<number, AddedTokenJson>();
  for (const map of maps) {
    for (const key of Object.keys(map ?? {})) {
      const content = key.endsWith('_token') ? tokenText(map, key) : null;
      const id = content === null ? undefined : vocab.get(content);
      if (content !== null && id !== undefined) added.set(id, { id, content, special: true });
    }
  }
  return [...added.values()];
}

const BERT_SPECIAL_TOKENS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];

function wordListJson(source: WordListTokenizerSource): TokenizerJson {
  const { tokenizerConfig: config } = source;
  const vocab = new Map<string, number>();
  const lines = source.pieces.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  for (const [id, line] of lines.entries()) {
    if (line !== '' && vocab.has(line))
      throw fault('vocab.txt', `line ${id + 1}`, 'pieces that differ', quoted(line));
    if (line !== '') vocab.set(line, id);
  }
  const known = BERT_SPECIAL_TOKENS.flatMap((content) => {
    const id = vocab.get(content);
    return id === undefined ? [] : [{ id, content, special: true }];
  });
  const added = addedTokensOf(source, known);
  const [cls] = byContent(added, ['[CLS]']);
  const [sep] = byContent(added, ['[SEP]']);
  return {
    added_tokens: added,
    normalizer: {
      type: 'BertNormalizer',
      lowercase: boolean(config, 'do_lower_case') ?? true,
      handle_chinese_chars: boolean(config, 'tokenize_chinese_chars') ?? true,
      strip_accents: boolean(config, 'strip_accents'),
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: textTemplate(cls, sep),
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      vocab,
      unk_token: tokenText(config, 'unk_token') ?? '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
    },
  };
}

function parseJson(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalidModelFile({
      file,
      where: 'the file',
      expected: 'JSON',
      found: (cause as Error).message,
      cause,
    });
  }
}

function fault(file: string, where: string, expected: string, found: string) {
  return invalidModelFile({ file, where, expected, found });
}
