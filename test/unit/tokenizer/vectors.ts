import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GgufTokenizerSource, TokenizerSource } from '../../../lib/model/checkpoint-types';
import type { StringTable } from '../../../lib/model/string-table';

/** One value of tokenizer.ggml.pre with the ids of the reference (Hugging Face tokenizers). */
export interface PreVectors {
  readonly components: Readonly<Record<string, unknown>>;
  readonly ignore_merges: boolean;
  readonly added_tokens: readonly {
    readonly id: number;
    readonly content: string;
    readonly special: boolean;
  }[];
  readonly parsed: readonly (readonly number[])[];
  readonly plain: readonly (readonly number[])[];
}

interface Vectors {
  readonly texts: readonly string[];
  readonly byteLevel: {
    readonly tokens: readonly string[];
    readonly merges: readonly string[];
    readonly pres: Readonly<Record<string, PreVectors>>;
    readonly nfc: readonly (readonly number[])[];
  };
  readonly sentencePiece: {
    readonly texts: readonly string[];
    readonly tokens: readonly string[];
    readonly scores: readonly number[];
    readonly types: readonly number[];
    readonly ids: readonly (readonly number[])[];
    readonly decoded: readonly string[];
  };
  readonly utf8: readonly { readonly bytes: readonly number[]; readonly text: string }[];
}

/** Made by test/fixtures/tokenizers/make_tokenizer_vectors.py. */
export const vectors = JSON.parse(
  readFileSync(join(__dirname, '../../fixtures/tokenizers/tokenizer-vectors.json'), 'utf8'),
) as Vectors;

export function stringTable(strings: readonly string[]): StringTable {
  const pieces = strings.map((text) => Buffer.from(text));
  const ends = new Uint32Array(pieces.length);
  let end = 0;
  for (const [i, piece] of pieces.entries()) {
    end += piece.length;
    ends[i] = end;
  }
  return { bytes: Buffer.concat(pieces), ends };
}

const NO_GGUF_KEYS = {
  pre: null,
  tokenTypes: null,
  scores: null,
  merges: null,
  bosTokenId: null,
  eosTokenId: null,
  eotTokenId: null,
  eomTokenId: null,
  unknownTokenId: null,
  separatorTokenId: null,
  paddingTokenId: null,
  maskTokenId: null,
  addBosToken: null,
  addEosToken: null,
  addSepToken: null,
  addSpacePrefix: null,
  removeExtraWhitespaces: null,
  precompiledCharsmap: null,
} as const;

export function ggufSource(keys: Partial<GgufTokenizerSource>): GgufTokenizerSource {
  return { kind: 'gguf', model: 'gpt2', tokens: stringTable([]), ...NO_GGUF_KEYS, ...keys };
}

/** The trained vocabulary as a GGUF file holds it; GGUF has no lstrip and no single words. */
export function byteLevelGguf(pre: string, keys: Partial<GgufTokenizerSource> = {}): GgufTokenizerSource {
  const { tokens, merges } = vectors.byteLevel;
  return ggufSource({
    pre,
    tokens: stringTable(tokens),
    tokenTypes: new Int32Array(tokens.length).fill(1),
    merges: stringTable(merges),
    ...keys,
  });
}

/** The same vocabulary as tokenizer.json. */
export function byteLevelJson(pre: string, changes: Readonly<Record<string, unknown>> = {}): TokenizerSource {
  const { tokens, merges, pres } = vectors.byteLevel;
  const vector = pres[pre] as PreVectors;
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const tokenizerJson = JSON.stringify({
    version: '1.0',
    added_tokens: vector.added_tokens,
    ...vector.components,
    model: { type: 'BPE', vocab, merges, ignore_merges: vector.ignore_merges },
    ...changes,
  });
  return { kind: 'huggingface', tokenizerJson, tokenizerConfig: null, specialTokensMap: null };
}

export function sentencePieceGguf(keys: Partial<GgufTokenizerSource> = {}): GgufTokenizerSource {
  const { tokens, scores, types } = vectors.sentencePiece;
  return ggufSource({
    model: 'llama',
    tokens: stringTable(tokens),
    scores: Float32Array.from(scores),
    tokenTypes: Int32Array.from(types),
    unknownTokenId: 0,
    bosTokenId: 1,
    eosTokenId: 2,
    ...keys,
  });
}

export const LIMITS = { vocabSize: null, contextLength: 4096 } as const;

/** A small seeded generator (mulberry32): failures name the seed. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
