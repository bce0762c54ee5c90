import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { AutoglmError } from '../errors';
import type { TokenizerSource } from '../model/checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../model/model-file-error';
import { AddedTokenSplitter, isMarkup, type TextRanges } from './added-tokens';
import { alphabetCharacter } from './byte-alphabet';
import { checkText, maxTextLengthFor, type TextLimit } from './text-check';
import { makeTokenTable, type Spelling, type TokenTable } from './token-table';
import { boundaryTokensOf } from './vocabulary/boundary-tokens';
import { ggufTokenizerJson } from './vocabulary/gguf-vocabulary';
import { huggingFaceTokenizerJson } from './vocabulary/huggingface-vocabulary';
import type { AddedTokenJson, BpeModelJson, ComponentJson, TokenizerJson } from './vocabulary/tokenizer-json';

export interface TokenizerLimits {
  /** Rows of the model's embedding: no token id may reach it. Null when the model is not known. */
  readonly vocabSize: number | null;
  /** Tokens the model was made for; decides how long a text may be. */
  readonly contextLength: number;
}

export interface EncodeOptions {
  /** Adds the tokens that the vocabulary puts around a text (BOS, ...). Default false. */
  readonly addSpecialTokens?: boolean;
  /** Control tokens spelled out in the text become those tokens. Default false: they are plain text. */
  readonly parseSpecialTokens?: boolean;
  /** Places where `parseSpecialTokens` does not hold. */
  readonly plainRanges?: TextRanges;
}

/** The parts of the library that are used: text to pre-tokens to pieces. */
interface Pieces {
  readonly normalize: (text: string) => string;
  readonly preTokenize: (text: string, section: number) => string[];
  readonly merge: (words: string[]) => string[];
  /** Ids of the pieces `merge` returns. */
  readonly ids: ReadonlyMap<string, number>;
}

/**
 * Text to token ids for one vocabulary.
 * Added tokens are found here rather than by the library, because user text must never turn into control tokens: the
 * model's pieces that spell one are taken out of the library's vocabulary.
 */
export class Tokenizer {
  readonly table: TokenTable;
  readonly limit: TextLimit;
  /** Control tokens (special) and other markup such as `<think>`, as texts spell them. */
  readonly markup: readonly { readonly content: string; readonly isSpecial: boolean }[];
  readonly bosToken: number | null;
  readonly #pieces: Pieces;
  readonly #unknownId: number | null;
  /** False for byte-level vocabularies: a byte that they lack would vanish from the text without a trace. */
  readonly #mayDropText: boolean;
  readonly #plainSplitter: AddedTokenSplitter;
  readonly #markupSplitter: AddedTokenSplitter;
  readonly #prefix: readonly number[];
  readonly #suffix: readonly number[];

  constructor(source: TokenizerSource, limits: TokenizerLimits) {
    const json = source.kind === 'gguf' ? ggufTokenizerJson(source) : huggingFaceTokenizerJson(source);
    const { spelling, hasLeadingSpace } = spellingOf(json.decoder);
    const numTokens = countTokens(json, limits.vocabSize);
    // Ids without a row in the embedding (image placeholders of text-only models) can never be used.
    const added = json.added_tokens.filter(({ id }) => id < numTokens);
    this.table = makeTokenTable(json.model.vocab, added, numTokens, spelling, hasLeadingSpace);
    this.limit = {
      maxTextLength: maxTextLengthFor(limits.contextLength),
      contextLength: limits.contextLength,
      longestToken: longestOf(json),
    };
    const unknown = json.model.unk_token;
    this.#unknownId = unknown === null ? null : (json.model.vocab.get(unknown) ?? null);
    this.#pieces = buildPieces(json, takeOutMarkup(json.model, added));
    this.#mayDropText = spelling !== 'byte-level' || this.#unknownId !== null;
    this.#plainSplitter = new AddedTokenSplitter(added.filter((token) => !isMarkup(token)));
    this.#markupSplitter = new AddedTokenSplitter(added);
    this.markup = added
      .filter(isMarkup)
      .map(({ content, special }) => ({ content, isSpecial: special === true }));
    const around = boundaryTokensOf(json.post_processor);
    this.#prefix = around.prefix;
    this.#suffix = around.suffix;
    this.bosToken = around.prefix[0] ?? null;
  }

  encode(text: string, options: EncodeOptions = {}): Int32Array {
    checkText(text, this.limit);
    const splitter = options.parseSpecialTokens === true ? this.#markupSplitter : this.#plainSplitter;
    const ids: number[] = options.addSpecialTokens === true ? [...this.#prefix] : [];
    for (const [i, section] of splitter.split(text, options.plainRanges ?? []).entries()) {
      if ('token' in section) ids.push(section.token);
      else this.#encodeSection(section.text, i, ids);
    }
    if (options.addSpecialTokens === true) ids.push(...this.#suffix);
    return Int32Array.from(ids);
  }

  #encodeSection(text: string, section: number, output: number[]): void {
    const { normalize, preTokenize, merge, ids } = this.#pieces;
    const words = preTokenize(normalize(text), section);
    let length = 0;
    for (const piece of merge(words)) {
      const id = ids.get(piece) ?? this.#unknownId;
      if (id === null) throw inexpressible(text, ids);
      output.push(id);
      length += piece.length;
    }
    if (this.#mayDropText) return;
    if (length !== words.reduce((sum, word) => sum + word.length, 0)) throw inexpressible(text, ids);
  }
}

function buildPieces(json: TokenizerJson, model: BpeModelJson): Pieces {
  let library: LibraryTokenizer;
  try {
    library = new LibraryTokenizer(
      {
        added_tokens: [],
        normalizer: json.normalizer,
        pre_tokenizer: json.pre_tokenizer,
        post_processor: null,
        decoder: null,
        model: { ...model, vocab: {} },
      },
      {},
    );
  } catch (cause) {
    throw new AutoglmError(
      'unsupported_model',
      `the tokenizer cannot be built: ${(cause as Error).message}`,
      {
        hint: 'The pattern or component named in the message has no equivalent here.',
        cause,
      },
    );
  }
  const { normalizer, pre_tokenizer, model: bpe } = library;
  if (bpe === null) throw new AutoglmError('internal', 'the library built a tokenizer without a model');
  // The library would take the vocabulary as an object only; it works on the maps made from it.
  bpe.tokens_to_ids = model.vocab;
  bpe.unk_token_id = model.unk_token === null ? undefined : model.vocab.get(model.unk_token);
  return {
    normalize: (text) => (normalizer === null ? text : normalizer.normalize(text)),
    preTokenize: (text, section) =>
      pre_tokenizer === null ? [text] : pre_tokenizer.pre_tokenize(text, { section_index: section }),
    merge: (words) => bpe._call(words),
    ids: model.vocab,
  };
}

function spellingOf(decoder: ComponentJson | null): { spelling: Spelling; hasLeadingSpace: boolean } {
  const parts = (
    decoder?.type === 'Sequence' ? decoder.decoders : [decoder]
  ) as readonly (ComponentJson | null)[];
  const find = (type: string) => parts.find((part) => part?.type === type);
  if (find('ByteLevel') !== undefined) return { spelling: 'byte-level', hasLeadingSpace: false };
  const metaspace = find('Metaspace');
  if (metaspace) {
    const scheme = metaspace.prepend_scheme ?? (metaspace.add_prefix_space === false ? 'never' : 'always');
    return { spelling: 'sentencepiece', hasLeadingSpace: scheme !== 'never' };
  }
  if (find('ByteFallback') !== undefined) {
    const strip = find('Strip');
    return { spelling: 'sentencepiece', hasLeadingSpace: Number(strip?.start ?? 0) > 0 };
  }
  throw unsupportedModel('tokenizer.json: decoder', `a decoder of type ${quoted(decoder?.type ?? 'none')}`, [
    'ByteLevel',
    'Metaspace',
    'Sequence with ByteFallback',
  ]);
}

/** Every id of the vocabulary must have a row in the model; rows without a token are common. */
function countTokens({ model, added_tokens }: TokenizerJson, vocabSize: number | null): number {
  let largest = -1;
  for (const id of model.vocab.values()) if (id > largest) largest = id;
  if (vocabSize === null) return Math.max(largest, ...added_tokens.map(({ id }) => id)) + 1;
  if (largest < vocabSize) return vocabSize;
  throw invalidModelFile({
    file: 'tokenizer',
    where: 'the vocabulary',
    expected: `token ids below the model's vocabulary size ${vocabSize}`,
    found: `${largest}`,
    hint: 'The tokenizer belongs to another model.',
  });
}

/** Takes the pieces that spell markup out of the vocabulary, and the merges that make them. */
function takeOutMarkup(model: BpeModelJson, added: readonly AddedTokenJson[]): BpeModelJson {
  const { vocab } = model;
  const markup = new Set(added.filter(isMarkup).map(({ content }) => content));
  const merges = model.merges.filter(([left, right], i) => {
    const result = left + right;
    if (vocab.has(left) && vocab.has(right) && vocab.has(result)) return !markup.has(result);
    throw invalidModelFile({
      file: 'tokenizer',
      where: `merge ${i}`,
      expected: 'pieces of the vocabulary',
      found: `${quoted(left)} ${quoted(right)}`,
    });
  });
  for (const piece of markup) vocab.delete(piece);
  return { ...model, merges };
}

function longestOf({ model, added_tokens }: TokenizerJson): number {
  let longest = 1;
  for (const piece of model.vocab.keys()) longest = Math.max(longest, piece.length);
  for (const { content } of added_tokens) longest = Math.max(longest, content.length);
  return longest;
}

/** Some vocabularies lack rare bytes, so that text with them cannot come back. */
function inexpressible(text: string, ids: ReadonlyMap<string, number>): AutoglmError {
  const lacks = (character: string) =>
    new TextEncoder().encode(character).some((byte) => !ids.has(alphabetCharacter(byte)));
  const character = [...text].find(lacks) ?? '';
  const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
  return new AutoglmError(
    'invalid_parameter',
    `this model's vocabulary cannot express the character U+${code}`,
    {
      hint: 'Remove the character from the text.',
      details: { character: `U+${code}` },
    },
  );
}
