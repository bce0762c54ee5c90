/**
 * The tokenizer.json object as far as this package reads it. GGUF vocabularies are converted to the same shape, so that
 * one library builds both.
 */
export interface TokenizerJson {
  readonly added_tokens: readonly AddedTokenJson[];
  readonly normalizer: ComponentJson | null;
  readonly pre_tokenizer: ComponentJson | null;
  readonly post_processor: ComponentJson | null;
  readonly decoder: ComponentJson | null;
  readonly model: BpeModelJson;
}

export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly single_word?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly normalized?: boolean;
  readonly special?: boolean;
}

/** A normalizer, pre-tokenizer, post-processor or decoder. */
export interface ComponentJson {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface BpeModelJson {
  readonly type: 'BPE';
  /** A map, not an object: objects with 100,000 keys take ten times as long to build. */
  readonly vocab: Map<string, number>;
  readonly merges: readonly (readonly [string, string])[];
  readonly unk_token: string | null;
  readonly fuse_unk: boolean;
  readonly byte_fallback: boolean;
  /** A pre-token that is in the vocabulary is taken whole, whatever the merges say. */
  readonly ignore_merges: boolean;
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
