import type { GgufTokenizerSource } from '../../model/checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../../model/model-file-error';
import { decodeStrings } from '../../model/string-table';
import { preTokenizerOf, preTokenizerRules } from './pre-tokenizer-rules';
import { mergesFromScores } from './sentencepiece-merges';
import type { AddedTokenJson, ComponentJson, TokenizerJson } from './tokenizer-json';

/** Values of `tokenizer.ggml.token_type`. */
export const GgufTokenType = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

const NOTHING: ComponentJson | null = null;

/** The vocabulary of a GGUF file as a tokenizer.json object. */
export function ggufTokenizerJson(source: GgufTokenizerSource): TokenizerJson {
  switch (source.model) {
    case 'gpt2':
      return byteLevelJson(source);
    case 'llama':
      return sentencePieceJson(source);
    default:
      throw unsupportedModel(
        'tokenizer.ggml.model',
        `a vocabulary of type ${quoted(source.model)}`,
        ['gpt2', 'llama'],
        'Use a checkpoint of the same model that has a tokenizer.json.',
      );
  }
}

function byteLevelJson(source: GgufTokenizerSource): TokenizerJson {
  const rules = preTokenizerRules(source.pre);
  if (source.merges === null) throw missing('tokenizer.ggml.merges', 'the merges of a gpt2 vocabulary');
  const { vocab, added } = readTokens(source);
  const merges = decodeStrings(source.merges).map(splitMerge);
  return {
    added_tokens: added,
    normalizer: NOTHING,
    pre_tokenizer: preTokenizerOf(rules),
    post_processor: boundaryTokens(source, added, rules.addsBos),
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab,
      merges,
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: rules.ignoreMerges,
    },
  };
}

const SPACE_TO_MARK: ComponentJson = { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' };

/** SentencePiece BPE: the score of a piece is the rank of the merges that make it. */
function sentencePieceJson(source: GgufTokenizerSource): TokenizerJson {
  if (source.scores === null) throw missing('tokenizer.ggml.scores', 'the scores of a llama vocabulary');
  if (source.removeExtraWhitespaces === true || source.precompiledCharsmap !== null) {
    throw unsupportedModel('tokenizer.ggml', 'a vocabulary that normalizes text', [
      'vocabularies that do not',
    ]);
  }
  const { vocab, added, tokens } = readTokens(source);
  const unknown = source.unknownTokenId === null ? null : (tokens[source.unknownTokenId] ?? null);
  const hasPrefix = source.addSpacePrefix ?? true;
  return {
    added_tokens: added,
    normalizer: {
      type: 'Sequence',
      normalizers: [...(hasPrefix ? [{ type: 'Prepend', prepend: '\u2581' }] : []), SPACE_TO_MARK],
    },
    pre_tokenizer: NOTHING,
    post_processor: boundaryTokens(source, added, true),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(hasPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      vocab,
      merges: mergesFromScores(tokens, source.scores, (id) => isNormal(source, id)),
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
    },
  };
}

interface Tokens {
  /** All strings, by id. */
  readonly tokens: readonly string[];
  readonly vocab: Map<string, number>;
  readonly added: AddedTokenJson[];
}

/** Unused and empty tokens stand for no text: they are left out. */
function readTokens(source: GgufTokenizerSource): Tokens {
  const tokens = decodeStrings(source.tokens);
  const vocab = new Map<string, number>();
  const added: AddedTokenJson[] = [];
  let numTokens = 0;
  const endings = new Set([source.bosTokenId, source.eosTokenId, source.eotTokenId, source.eomTokenId]);
  for (const [id, content] of tokens.entries()) {
    const type = source.tokenTypes?.[id] ?? GgufTokenType.normal;
    if (content === '' || type === GgufTokenType.unused) continue;
    vocab.set(content, id);
    numTokens += 1;
    if (vocab.size < numTokens) throw duplicate(tokens, id);
    const isControl = type === GgufTokenType.control || type === GgufTokenType.unknown || endings.has(id);
    if (isControl || type === GgufTokenType.userDefined) {
      added.push({ id, content, special: isControl, normalized: false });
    }
  }
  return { tokens, vocab, added };
}

function isNormal(source: GgufTokenizerSource, id: number): boolean {
  return (source.tokenTypes?.[id] ?? GgufTokenType.normal) === GgufTokenType.normal;
}

function splitMerge(merge: string, index: number): [string, string] {
  // A space inside a piece is written in the byte alphabet, so the first one after the first character separates.
  const space = merge.indexOf(' ', 1);
  if (space > 0 && space < merge.length - 1) return [merge.slice(0, space), merge.slice(space + 1)];
  throw invalidModelFile({
    file: 'GGUF vocabulary',
    where: `tokenizer.ggml.merges[${index}]`,
    expected: 'two pieces with a space between them',
    found: quoted(merge),
  });
}

function duplicate(tokens: readonly string[], id: number) {
  const content = tokens[id] as string;
  return invalidModelFile({
    file: 'GGUF vocabulary',
    where: `tokenizer.ggml.tokens[${id}]`,
    expected: 'tokens that differ',
    found: `${quoted(content)}, which is token ${tokens.indexOf(content)} too`,
  });
}

function missing(where: string, expected: string) {
  return invalidModelFile({ file: 'GGUF vocabulary', where, expected, found: 'nothing' });
}

/** The tokens put before and after a text, in the form of a tokenizer.json post-processor. */
function boundaryTokens(
  source: GgufTokenizerSource,
  added: readonly AddedTokenJson[],
  addsBosByDefault: boolean,
): ComponentJson | null {
  const special_tokens: Record<string, { id: string; ids: number[]; tokens: string[] }> = Object.create(null);
  const single: unknown[] = [{ Sequence: { id: 'A', type_id: 0 } }];
  const find = (id: number | null) => added.find((token) => token.id === id);
  const put = (token: AddedTokenJson, place: 'push' | 'unshift'): void => {
    special_tokens[token.content] = { id: token.content, ids: [token.id], tokens: [token.content] };
    single[place]({ SpecialToken: { id: token.content, type_id: 0 } });
  };
  const bos = find(source.bosTokenId);
  const eos = find(source.eosTokenId);
  if ((source.addBosToken ?? addsBosByDefault) && bos !== undefined) put(bos, 'unshift');
  if ((source.addEosToken ?? false) && eos !== undefined) put(eos, 'push');
  return single.length === 1 ? null : { type: 'TemplateProcessing', single, special_tokens };
}
