import { AutoglmError } from '../errors';
import type { TokenizerSource } from '../model/checkpoint-types';
import { invalidModelFile, unsupportedModel } from '../model/model-file-error';
import { AddedTokenSplitter, isMarkup, type Section, type TextRanges } from './added-tokens';
import { makeTextModel, type TextModel } from './models/text-model';
import { spellingOf } from './spelling';
import { makeNormalizer, type Normalizer } from './stages/normalizer';
import { makePreTokenizer, type PreTokenizer } from './stages/pre-tokenizer';
import { type TextPlace, WHOLE_TEXT } from './stages/sentencepiece-text';
import { checkText, maxTextLengthFor, type TextLimit } from './text-check';
import { makeTokenTable, type TokenTable } from './token-table';
import { boundaryTokensOf } from './vocabulary/boundary-tokens';
import { type PairTemplate, pairTemplateOf } from './vocabulary/pair-template';
import { tokenizerJsonOf } from './vocabulary/read-vocabulary';
import type { AddedTokenJson, TokenizerJson } from './vocabulary/tokenizer-json';

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

/**
 * Text to token ids for one vocabulary: added tokens are cut out, what lies between them is normalized, cut into words and
 * turned into tokens by the vocabulary's model. User text never turns into control tokens: the model's pieces that spell
 * one are hidden from it.
 */
export class Tokenizer {
  readonly table: TokenTable;
  readonly limit: TextLimit;
  /** Control tokens (special) and other markup such as `<think>`, as texts spell them. */
  readonly markup: readonly { readonly content: string; readonly isSpecial: boolean }[];
  readonly bosToken: number | null;
  /** Null when the vocabulary has no template for two texts. */
  readonly pairTemplate: PairTemplate | null;
  readonly #normalizer: Normalizer | null;
  readonly #preTokenizer: PreTokenizer | null;
  readonly #model: TextModel;
  readonly #plainSplitter: AddedTokenSplitter;
  readonly #markupSplitter: AddedTokenSplitter;
  /** Tokens that are looked for in normalized text; null when there are none. */
  readonly #normalizedSplitter: AddedTokenSplitter | null;
  readonly #prefix: readonly number[];
  readonly #suffix: readonly number[];

  constructor(source: TokenizerSource, limits: TokenizerLimits) {
    const json = tokenizerJsonOf(source);
    const numTokens = countTokens(json, limits.vocabSize);
    // Ids without a row in the embedding (image placeholders of text-only models) can never be used.
    const added = json.added_tokens.filter(({ id, content }) => id < numTokens && content !== '');
    this.table = makeTokenTable(json.model.vocab, added, numTokens, spellingOf(json.decoder));
    this.limit = {
      maxTextLength: maxTextLengthFor(limits.contextLength),
      contextLength: limits.contextLength,
      longestToken: longestOf(json),
    };
    this.#normalizer = makeNormalizer(json.normalizer);
    this.#preTokenizer = makePreTokenizer(json.pre_tokenizer);
    this.markup = added
      .filter(isMarkup)
      .map(({ content, special }) => ({ content, isSpecial: special === true }));
    this.#model = makeTextModel(json.model, hiddenTokens(json.model.vocab, this.markup));
    const normalized = this.#normalizer === null ? [] : added.filter(isNormalized);
    const raw = added.filter((token) => !normalized.includes(token));
    this.#plainSplitter = new AddedTokenSplitter(raw.filter((token) => !isMarkup(token)));
    this.#markupSplitter = new AddedTokenSplitter(raw);
    this.#normalizedSplitter = this.#makeNormalizedSplitter(normalized);
    const around = boundaryTokensOf(json.post_processor);
    this.#prefix = checkedIds(around.prefix, numTokens);
    this.#suffix = checkedIds(around.suffix, numTokens);
    this.bosToken = around.prefix[0] ?? null;
    this.pairTemplate = pairTemplateOf(json.post_processor);
    const { prefix = [], between = [], suffix = [] } = this.pairTemplate ?? {};
    checkedIds([...prefix, ...between, ...suffix], numTokens);
  }

  /** What is put around a single text. */
  get boundaries(): { readonly prefix: readonly number[]; readonly suffix: readonly number[] } {
    return { prefix: this.#prefix, suffix: this.#suffix };
  }

  encode(text: string, options: EncodeOptions = {}): Int32Array {
    checkText(text, this.limit);
    const splitter = options.parseSpecialTokens === true ? this.#markupSplitter : this.#plainSplitter;
    const ids: number[] = options.addSpecialTokens === true ? [...this.#prefix] : [];
    for (const section of splitter.split(text, options.plainRanges ?? [])) this.#encodeSection(section, ids);
    if (options.addSpecialTokens === true) ids.push(...this.#suffix);
    return Int32Array.from(ids);
  }

  #makeNormalizedSplitter(tokens: readonly AddedTokenJson[]): AddedTokenSplitter | null {
    if (tokens.length === 0) return null;
    const spelt = tokens.map((token) => ({ ...token, content: this.#normalize(token.content, WHOLE_TEXT) }));
    return new AddedTokenSplitter(spelt);
  }

  #normalize(text: string, place: TextPlace): string {
    return this.#normalizer === null ? text : this.#normalizer(text, place);
  }

  #encodeSection(section: Section, ids: number[]): void {
    if ('token' in section) {
      ids.push(section.token);
      return;
    }
    const { text, isFirst, place } = section;
    const normalized = this.#normalize(text, place);
    if (this.#normalizedSplitter === null) {
      this.#encodeText(normalized, isFirst, ids);
      return;
    }
    for (const part of this.#normalizedSplitter.split(normalized, [], isFirst)) {
      if ('token' in part) ids.push(part.token);
      else this.#encodeText(part.text, part.isFirst, ids);
    }
  }

  #encodeText(text: string, isFirst: boolean, ids: number[]): void {
    if (text === '') return;
    const words: string[] = [];
    if (this.#preTokenizer === null) words.push(text);
    else this.#preTokenizer(text, isFirst, words);
    for (const word of words) if (!this.#model.encode(word, ids)) throw this.#inexpressible(text);
  }

  /** Some vocabularies lack rare bytes or characters, so that text with them could not come back. */
  #inexpressible(text: string): AutoglmError {
    const lacks = (character: string) => {
      const words: string[] = [];
      if (this.#preTokenizer === null) words.push(character);
      else this.#preTokenizer(character, false, words);
      return words.some((word) => !this.#model.encode(word, []));
    };
    const character = Array.from(text).find(lacks) ?? text;
    const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
    return new AutoglmError(
      'invalid_parameter',
      `this model's vocabulary cannot express the character U+${code}`,
      { hint: 'Remove the character from the text.', details: { character: `U+${code}` } },
    );
  }
}

/** Markup is looked for in the text as it is, so that the ranges where it is plain text hold. */
function isNormalized(token: AddedTokenJson): boolean {
  return token.normalized === true && !isMarkup(token);
}

/** Pieces of the model that spell markup. */
function hiddenTokens(
  vocab: ReadonlyMap<string, number>,
  markup: readonly { readonly content: string }[],
): ReadonlySet<number> {
  return new Set(markup.flatMap(({ content }) => vocab.get(content) ?? []));
}

/** Every id of the vocabulary must have a row in the model; rows without a token are common. */
function countTokens({ model, added_tokens }: TokenizerJson, vocabSize: number | null): number {
  let largest = -1;
  for (const id of model.vocab.values()) if (id > largest) largest = id;
  if (vocabSize === null) {
    for (const { id } of added_tokens) if (id > largest) largest = id;
    return largest + 1;
  }
  if (largest < vocabSize) return vocabSize;
  throw tooSmall('the vocabulary', vocabSize, largest);
}

function checkedIds(ids: readonly number[], numTokens: number): readonly number[] {
  const wrong = ids.find((id) => id >= numTokens);
  if (wrong === undefined) return ids;
  throw tooSmall('the post-processor', numTokens, wrong);
}

function tooSmall(where: string, vocabSize: number, id: number): AutoglmError {
  return invalidModelFile({
    file: 'tokenizer',
    where,
    expected: `token ids below the model's vocabulary size ${vocabSize}`,
    found: `${id}`,
    hint: 'The tokenizer belongs to another model.',
  });
}

/** UTF-16 units. Published vocabularies have runs of up to 256 spaces; looking for a piece takes as long as the longest. */
const MAX_PIECE_LENGTH = 1024;

function longestOf({ model, added_tokens }: TokenizerJson): number {
  let longest = 1;
  for (const piece of model.vocab.keys()) longest = Math.max(longest, piece.length);
  for (const { content } of added_tokens) longest = Math.max(longest, content.length);
  if (longest <= MAX_PIECE_LENGTH) return longest;
  throw unsupportedModel('tokenizer', `a token of ${longest} characters`, [
    `tokens of at most ${MAX_PIECE_LENGTH} characters`,
  ]);
}
