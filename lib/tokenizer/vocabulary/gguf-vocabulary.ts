import type { GgufTokenizerSource } from '../../model/checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../../model/model-file-error';
import { decodeStrings } from '../../model/string-table';
import { textTemplate } from './boundary-tokens';
import { makeMerges } from './model-json';
import { duplicatePiece, PieceType, pieceVocabularyJson } from './piece-vocabulary';
import { preTokenizerOf, preTokenizerRules } from './pre-tokenizer-rules';
import type { AddedTokenJson, ComponentJson, TokenizerJson } from './tokenizer-json';

const FILE = 'GGUF vocabulary';
const TOKENS = 'tokenizer.ggml.tokens';

/** The vocabulary of a GGUF file as a tokenizer.json object. */
export function ggufTokenizerJson(source: GgufTokenizerSource): TokenizerJson {
  switch (source.model) {
    case 'gpt2':
      return byteLevelJson(source);
    case 'llama':
      return sentencePieceJson(source, 'BPE');
    case 't5':
      return sentencePieceJson(source, 'Unigram');
    case 'bert':
      return wordPieceJson(source);
    default:
      throw unsupportedModel(
        'tokenizer.ggml.model',
        `a vocabulary of type ${quoted(source.model)}`,
        ['gpt2', 'llama', 'bert', 't5'],
        'Use a checkpoint of the same model that has a tokenizer.json.',
      );
  }
}

const typeOf = (source: GgufTokenizerSource, id: number): number =>
  source.tokenTypes?.[id] ?? PieceType.normal;

function byteLevelJson(source: GgufTokenizerSource): TokenizerJson {
  const rules = preTokenizerRules(source.pre);
  if (source.merges === null) throw missing('tokenizer.ggml.merges', 'the merges of a gpt2 vocabulary');
  const { vocab, added } = readTokens(source, (token) => token);
  return {
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: preTokenizerOf(rules),
    post_processor: boundaryTokens(source, added, { bos: rules.addsBos, eos: false, sep: rules.addsSep }),
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab,
      merges: makeMerges(vocab, decodeStrings(source.merges).map(splitMerge)),
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: rules.ignoreMerges,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      userDefined: [],
      unused: new Set(),
    },
  };
}

function sentencePieceJson(source: GgufTokenizerSource, type: 'BPE' | 'Unigram'): TokenizerJson {
  const { scores, bosTokenId, eosTokenId, eotTokenId, eomTokenId } = source;
  if (scores === null) throw missing('tokenizer.ggml.scores', `the scores of a ${source.model} vocabulary`);
  const pieces = decodeStrings(source.tokens);
  const { added, normalizer, decoder, model } = pieceVocabularyJson(
    {
      file: FILE,
      where: TOKENS,
      pieces,
      types: pieces.map((_, id) => typeOf(source, id)),
      scores,
      unknownId: source.unknownTokenId,
      endings: new Set([bosTokenId, eosTokenId, eotTokenId, eomTokenId]),
      rules: {
        charsmap: source.precompiledCharsmap,
        addDummyPrefix: source.addSpacePrefix ?? true,
        removeExtraWhitespaces: source.removeExtraWhitespaces ?? false,
        escapeWhitespaces: true,
        treatWhitespaceAsSuffix: false,
      },
    },
    type,
  );
  const isBpe = type === 'BPE';
  // XLM-R's vocabularies come under T5's name, and have what T5 has not: a token that separates texts.
  const isEncoder = !isBpe && source.separatorTokenId !== null;
  return {
    added_tokens: added,
    normalizer,
    pre_tokenizer: null,
    post_processor: boundaryTokens(source, added, { bos: isBpe || isEncoder, eos: !isBpe, sep: isEncoder }),
    decoder,
    model,
  };
}

/** GGUF writes the beginnings of words with U+2581 and the other pieces bare; WordPiece does it the other way round. */
function wordPieceJson(source: GgufTokenizerSource): TokenizerJson {
  const { vocab, added } = readTokens(source, (token, isControl) => {
    if (isControl) return token;
    return token.startsWith('\u2581') ? token.slice(1) : `##${token}`;
  });
  const unknown = added.find(({ id, content }) => id === source.unknownTokenId || content === '[UNK]');
  return {
    added_tokens: added,
    normalizer: bertText(vocab, added),
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: bertBoundaries(source, added),
    decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
    model: {
      type: 'WordPiece',
      vocab,
      unk_token: unknown?.content ?? '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
    },
  };
}

/** The format does not say whether text is lowercased; a vocabulary without capitals was made from such text. */
export function bertText(
  vocab: ReadonlyMap<string, number>,
  added: readonly AddedTokenJson[],
): ComponentJson {
  const control = new Set(added.map(({ content }) => content));
  let hasCapitals = false;
  for (const piece of vocab.keys()) hasCapitals ||= /[A-Z]/.test(piece) && !control.has(piece);
  return { type: 'BertNormalizer', lowercase: !hasCapitals, strip_accents: !hasCapitals };
}

function bertBoundaries(source: GgufTokenizerSource, added: readonly AddedTokenJson[]): ComponentJson | null {
  const find = (ids: readonly (number | null)[], content: string) =>
    added.find(({ id }) => ids.includes(id)) ?? added.find((token) => token.content === content);
  const first = source.addBosToken === false ? undefined : find([source.bosTokenId], '[CLS]');
  const last = source.addEosToken === false ? undefined : find([source.separatorTokenId], '[SEP]');
  return textTemplate(first, last);
}

interface Tokens {
  readonly vocab: Map<string, number>;
  readonly added: AddedTokenJson[];
}

/** Unused and empty tokens stand for no text: they are left out. */
function readTokens(
  source: GgufTokenizerSource,
  spell: (token: string, isControl: boolean) => string,
): Tokens {
  const tokens = decodeStrings(source.tokens);
  const vocab = new Map<string, number>();
  const added: AddedTokenJson[] = [];
  let numTokens = 0;
  const endings = new Set([source.bosTokenId, source.eosTokenId, source.eotTokenId, source.eomTokenId]);
  for (let id = 0; id < tokens.length; id += 1) {
    const token = tokens[id] as string;
    const type = typeOf(source, id);
    if (token === '' || type === PieceType.unused) continue;
    const isControl = type === PieceType.control || type === PieceType.unknown || endings.has(id);
    const content = spell(token, isControl);
    vocab.set(content, id);
    numTokens += 1;
    if (vocab.size < numTokens) throw duplicatePiece(FILE, TOKENS, tokens, id);
    if (isControl || type === PieceType.userDefined) {
      added.push({ id, content, special: isControl, normalized: false });
    }
  }
  return { vocab, added };
}

function splitMerge(merge: string, index: number): [string, string] {
  // A space inside a piece is written in the byte alphabet, so the first one after the first character separates.
  const space = merge.indexOf(' ', 1);
  if (space > 0 && space < merge.length - 1) return [merge.slice(0, space), merge.slice(space + 1)];
  throw invalidModelFile({
    file: FILE,
    where: `tokenizer.ggml.merges[${index}]`,
    expected: 'two pieces with a space between them',
    found: quoted(merge),
  });
}

function missing(where: string, expected: string) {
  return invalidModelFile({ file: FILE, where, expected, found: 'nothing' });
}

/** The tokens put before and after a text; `defaults` for keys that a file leaves out. */
function boundaryTokens(
  source: GgufTokenizerSource,
  added: readonly AddedTokenJson[],
  defaults: { readonly bos: boolean; readonly eos: boolean; readonly sep: boolean },
): ComponentJson | null {
  const find = (id: number | null) => added.find((token) => token.id === id);
  const first = (source.addBosToken ?? defaults.bos) ? find(source.bosTokenId) : undefined;
  const last = (source.addEosToken ?? defaults.eos) ? find(source.eosTokenId) : undefined;
  const separator = (source.addSepToken ?? defaults.sep) ? find(source.separatorTokenId) : undefined;
  return textTemplate(first, last, separator);
}
