import type { StoredFormat } from '../native/abi';
import type { ConfigReader } from './config-reader';
import type { GgufMetadata } from './gguf/metadata';
import type { SentenceTransformersFiles } from './sentence-transformers';
import type { StringTable } from './string-table';

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };
export type JsonObject = { readonly [key: string]: JsonValue };

/** A file whose header was parsed, with its state at that time: a later difference is `model_file_changed`. */
export interface CheckpointFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly mtimeMs: number;
}

/** One tensor's place in the files. Its bytes lie inside the file: that was checked when the header was parsed. */
export interface StoredTensor {
  readonly name: string;
  /** The file's own word for the element type, e.g. `Q4_K`, `BF16`, `I64`. */
  readonly typeName: string;
  /** Null for types no weight may have (I64 counters, Q2_K, ...): using the tensor is then `unsupported_model`. */
  readonly format: StoredFormat | null;
  /** Slowest dimension first: [out, in] for matrices, [length] for vectors, [] for scalars. */
  readonly shape: readonly number[];
  /** Index into Checkpoint.files. */
  readonly file: number;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** What a tokenizer is built from. Plain data. */
export type TokenizerSource =
  | HuggingFaceTokenizerSource
  | TokenizerModelSource
  | MergesTokenizerSource
  | WordListTokenizerSource
  | GgufTokenizerSource;

/** The files beside a tokenizer that name its special tokens and switches; null when absent. */
interface TokenizerSettings {
  readonly tokenizerConfig: JsonObject | null;
  readonly specialTokensMap: JsonObject | null;
}

export interface HuggingFaceTokenizerSource extends TokenizerSettings {
  readonly kind: 'huggingface';
  /** Text of tokenizer.json, not parsed yet. */
  readonly tokenizerJson: string;
}

/** A SentencePiece model, or tiktoken ranks; its content tells which. */
export interface TokenizerModelSource extends TokenizerSettings {
  readonly kind: 'tokenizer-model';
  /** tokenizer.model, sentencepiece.bpe.model, spiece.model: tokenizer classes give it names of their own. */
  readonly fileName: string;
  readonly content: Uint8Array;
  /** added_tokens.json: ids by text; null when absent. */
  readonly addedTokens: JsonObject | null;
}

/** vocab.json and merges.txt: byte-level BPE. */
export interface MergesTokenizerSource extends TokenizerSettings {
  readonly kind: 'merges';
  readonly vocabulary: string;
  readonly merges: string;
  readonly addedTokens: JsonObject | null;
}

/** vocab.txt: WordPiece, one piece a line. */
export interface WordListTokenizerSource extends TokenizerSettings {
  readonly kind: 'word-list';
  readonly pieces: string;
  readonly addedTokens: JsonObject | null;
}

/** The keys `tokenizer.ggml.*`; null means that the key is absent. */
export interface GgufTokenizerSource {
  readonly kind: 'gguf';
  /** `tokenizer.ggml.model`: gpt2 (byte-level BPE), llama (SentencePiece), bert, t5, ... */
  readonly model: string;
  /** `tokenizer.ggml.pre`: names the pre-tokenizer's rules, e.g. `smollm`, `llama-bpe`, `qwen2`, `glm4`. */
  readonly pre: string | null;
  readonly tokens: StringTable;
  /** Per token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. As long as `tokens`. */
  readonly tokenTypes: Int32Array | null;
  /** As long as `tokens`. */
  readonly scores: Float32Array | null;
  /** "left right" each, first merges first. */
  readonly merges: StringTable | null;
  /** Ids are checked to be smaller than the number of tokens. */
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly eotTokenId: number | null;
  readonly eomTokenId: number | null;
  readonly unknownTokenId: number | null;
  readonly separatorTokenId: number | null;
  readonly paddingTokenId: number | null;
  readonly maskTokenId: number | null;
  readonly addBosToken: boolean | null;
  readonly addEosToken: boolean | null;
  /** Whether a second end mark separates the texts of a pair. */
  readonly addSepToken: boolean | null;
  readonly addSpacePrefix: boolean | null;
  readonly removeExtraWhitespaces: boolean | null;
  /** SentencePiece normalisation rules. */
  readonly precompiledCharsmap: Uint8Array | null;
}

/** Jinja sources. */
export interface ChatTemplates {
  /** Null when the checkpoint has none. */
  readonly default: string | null;
  /** Further ones by name, e.g. `tool_use`. */
  readonly named: Readonly<Record<string, string>>;
}

/** Where a model's settings come from. */
export type CheckpointConfig =
  | { readonly kind: 'huggingface'; readonly values: ConfigReader }
  | { readonly kind: 'gguf'; readonly architecture: string; readonly values: GgufMetadata };

/** One view over both formats: everything a model is made from, tensor data aside. */
export interface Checkpoint {
  /** The file or directory that was opened. */
  readonly path: string;
  readonly format: 'gguf' | 'safetensors';
  readonly files: readonly CheckpointFile[];
  readonly config: CheckpointConfig;
  /** generation_config.json; null when absent and for GGUF. */
  readonly generationConfig: JsonObject | null;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Numbers of the small vectors that rope tables are computed from, e.g. `rope_freqs.weight`. */
  readonly ropeVectors: ReadonlyMap<string, Float32Array>;
  /** Null when the checkpoint has no tokenizer. */
  readonly tokenizer: TokenizerSource | null;
  readonly chatTemplates: ChatTemplates;
  /** Null for checkpoints that were not published for embeddings, and for GGUF. */
  readonly sentenceTransformers: SentenceTransformersFiles | null;
  /** Tokens that end an answer, in the order found; may be empty. */
  readonly eosTokenIds: readonly number[];
  readonly warnings: readonly CheckpointWarning[];
}

/** Tensors of GGUF files that hold divisors of rope frequencies, one for each rotated pair. */
export const ROPE_VECTORS = {
  divisors: 'rope_freqs.weight',
  long: 'rope_factors_long.weight',
  short: 'rope_factors_short.weight',
} as const;

/** Something in the files that was passed over. */
export interface CheckpointWarning {
  readonly code: string;
  readonly message: string;
}
