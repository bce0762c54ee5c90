/**
 * The tokenizer.json object as far as this package reads it. GGUF vocabularies, SentencePiece models and tiktoken ranks
 * are converted to the same shape, so that one tokenizer runs them all.
 */
export interface TokenizerJson {
  readonly added_tokens: readonly AddedTokenJson[];
  readonly normalizer: ComponentJson | null;
  readonly pre_tokenizer: ComponentJson | null;
  readonly post_processor: ComponentJson | null;
  readonly decoder: ComponentJson | null;
  readonly model: ModelJson;
}

export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly single_word?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly normalized?: boolean;
  readonly special?: boolean;
  /** A symbol that is a part of the text around it, as SentencePiece's user-defined ones are. */
  readonly isTextSymbol?: boolean;
}

/** A normalizer, pre-tokenizer, post-processor or decoder. */
export interface ComponentJson {
  readonly type: string;
  readonly [key: string]: unknown;
}

export type ModelJson = BpeModelJson | UnigramModelJson | WordPieceModelJson | WordLevelModelJson;

/** Two tokens and the one they are joined to, in flat arrays: objects for 300,000 merges would take 50 MB. */
export interface MergesJson {
  /** [numMerges * 3]: left, right and result of each merge. */
  readonly pairs: Int32Array;
  /** [numMerges]: lower ranks first; among equal ranks the leftmost pair of a text. */
  readonly ranks: Int32Array;
}

export interface BpeModelJson {
  readonly type: 'BPE';
  /** A map, not an object: objects with 100,000 keys take ten times as long to build. */
  readonly vocab: Map<string, number>;
  readonly merges: MergesJson;
  readonly unk_token: string | null;
  readonly fuse_unk: boolean;
  readonly byte_fallback: boolean;
  /** A pre-token that is in the vocabulary is taken whole, whatever the merges say. */
  readonly ignore_merges: boolean;
  /** Written before each symbol of a word but the first. */
  readonly continuing_subword_prefix: string;
  /** Written after the last symbol of a word. */
  readonly end_of_word_suffix: string;
  /** Pieces cut out before anything is joined. */
  readonly userDefined: readonly string[];
  /** Pieces that merges may pass through but that are taken apart again. */
  readonly unused: ReadonlySet<number>;
}

export interface UnigramModelJson {
  readonly type: 'Unigram';
  readonly vocab: Map<string, number>;
  /** By token id. */
  readonly scores: ArrayLike<number>;
  readonly unk_id: number | null;
  readonly byte_fallback: boolean;
  readonly userDefined: readonly string[];
  readonly unused: ReadonlySet<number>;
  /** Whether a token counts for the lowest and the highest score. */
  readonly isScored: (id: number) => boolean;
  readonly isSinglePrecision: boolean;
}

export interface WordPieceModelJson {
  readonly type: 'WordPiece';
  readonly vocab: Map<string, number>;
  readonly unk_token: string;
  readonly continuing_subword_prefix: string;
  readonly max_input_chars_per_word: number;
}

export interface WordLevelModelJson {
  readonly type: 'WordLevel';
  readonly vocab: Map<string, number>;
  readonly unk_token: string;
}

/** A pre-tokenizer that cuts out each match of a regular expression (Oniguruma syntax). */
export function splitOn(pattern: string): ComponentJson {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

/** Maps bytes to the byte alphabet and cuts nothing. */
export const BYTES_TO_ALPHABET: ComponentJson = {
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: false,
};

/** The words of GPT-2's byte-level pre-tokenizer. */
export const GPT2_WORDS =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
