import { invalidModelFile, quoted } from '../../model/model-file-error';
import { isMarkup } from '../added-tokens';
import { mergesOfPieces, ranksFromScores } from './piece-merges';
import type { AddedTokenJson, BpeModelJson, ComponentJson, UnigramModelJson } from './tokenizer-json';

/** Types of SentencePiece pieces; `tokenizer.ggml.token_type` has the same. */
export const PieceType = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** A SentencePiece vocabulary, from a .model file or from GGUF keys. */
export interface PieceVocabulary {
  /** File and place, for messages. */
  readonly file: string;
  readonly where: string;
  /** By id; empty ones stand for no text. */
  readonly pieces: readonly string[];
  readonly types: ArrayLike<number>;
  readonly scores: Float32Array;
  readonly unknownId: number | null;
  /** Tokens that are control tokens whatever their type says. */
  readonly endings: ReadonlySet<number | null>;
  readonly rules: {
    readonly charsmap: Uint8Array | null;
    readonly addDummyPrefix: boolean;
    readonly removeExtraWhitespaces: boolean;
    readonly escapeWhitespaces: boolean;
    readonly treatWhitespaceAsSuffix: boolean;
  };
}

interface SortedPieces {
  /** Pieces that text can become. */
  readonly vocab: Map<string, number>;
  readonly added: readonly AddedTokenJson[];
  readonly userDefined: readonly string[];
  readonly unused: ReadonlySet<number>;
  readonly hasBytes: boolean;
}

/**
 * Control and unknown pieces, and user-defined ones that look like markup, become added tokens; other user-defined pieces
 * are cut out of the text by the model.
 */
function sortPieces({ file, where, pieces, types, scores, endings }: PieceVocabulary): SortedPieces {
  const vocab = new Map<string, number>();
  const added: AddedTokenJson[] = [];
  const userDefined: string[] = [];
  const unused = new Set<number>();
  let hasBytes = false;
  let numTokens = 0;
  for (const [id, content] of pieces.entries()) {
    if (content === '') continue;
    if (!Number.isFinite(scores[id])) {
      throw invalidModelFile({
        file,
        where: `score ${id}`,
        expected: 'a finite number',
        found: `${scores[id]}`,
      });
    }
    vocab.set(content, id);
    numTokens += 1;
    if (vocab.size < numTokens) throw duplicatePiece(file, where, pieces, id);
    const type = types[id] as number;
    const special = type === PieceType.control || type === PieceType.unknown || endings.has(id);
    const token: AddedTokenJson = { id, content, special, isTextSymbol: !special };
    if (special || (type === PieceType.userDefined && isMarkup(token))) added.push(token);
    else if (type === PieceType.userDefined) userDefined.push(content);
    else if (type === PieceType.unused) unused.add(id);
    else if (type === PieceType.byte) hasBytes = true;
  }
  return { vocab, added, userDefined, unused, hasBytes };
}

export function duplicatePiece(file: string, where: string, pieces: readonly string[], id: number) {
  const content = pieces[id] as string;
  return invalidModelFile({
    file,
    where: `${where}[${id}]`,
    expected: 'tokens that differ',
    found: `${quoted(content)}, which is token ${pieces.indexOf(content)} too`,
  });
}

/** The parts of a tokenizer.json object that a SentencePiece vocabulary decides. */
export function pieceVocabularyJson(vocabulary: PieceVocabulary, modelType: 'BPE' | 'Unigram') {
  const sorted = sortPieces(vocabulary);
  const model = modelType === 'BPE' ? bpeModel(vocabulary, sorted) : unigramModel(vocabulary, sorted);
  const { rules } = vocabulary;
  const normalizer: ComponentJson = { type: 'SentencePiece', ...rules, userDefined: sorted.userDefined };
  const numLeadingSpaces = rules.removeExtraWhitespaces
    ? Number.MAX_SAFE_INTEGER
    : Number(rules.addDummyPrefix);
  const decoder: ComponentJson = {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: numLeadingSpaces, stop: 0 },
    ],
  };
  return { added: sorted.added, normalizer, decoder, model };
}

function isMerged(type: number): boolean {
  return type === PieceType.normal || type === PieceType.unused;
}

/** SentencePiece's BPE: neighbours are joined whose concatenation has the highest score. */
function bpeModel({ pieces, types, scores, unknownId }: PieceVocabulary, sorted: SortedPieces): BpeModelJson {
  const { vocab, userDefined, unused, hasBytes, added } = sorted;
  const control = new Set(added.map(({ id }) => id));
  const mergeable = new Map<string, number>();
  for (const [piece, id] of vocab) {
    if (isMerged(types[id] as number) && !control.has(id)) mergeable.set(piece, id);
  }
  const ranks = ranksFromScores(mergeable.values(), scores);
  return {
    type: 'BPE',
    vocab,
    merges: mergesOfPieces(mergeable, (id) => ranks.get(id) ?? null),
    unk_token: unknownId === null ? null : (pieces[unknownId] ?? null),
    fuse_unk: true,
    byte_fallback: hasBytes,
    ignore_merges: false,
    continuing_subword_prefix: '',
    end_of_word_suffix: '',
    userDefined,
    unused,
  };
}

function unigramModel({ types, scores, unknownId }: PieceVocabulary, sorted: SortedPieces): UnigramModelJson {
  const { vocab, userDefined, unused, hasBytes } = sorted;
  return {
    type: 'Unigram',
    vocab,
    scores,
    unk_id: unknownId,
    byte_fallback: hasBytes,
    userDefined,
    unused,
    isScored: (id) => types[id] === PieceType.normal,
    isSinglePrecision: true,
  };
}
