import { invalidModelFile, quoted, unsupportedModel } from '../../model/model-file-error';
import type {
  BpeModelJson,
  MergesJson,
  ModelJson,
  UnigramModelJson,
  WordLevelModelJson,
  WordPieceModelJson,
} from './tokenizer-json';
import { MAX_MERGES, MAX_TOKEN_ID } from './vocabulary-limits';

const FILE = 'tokenizer.json';

export type Untrusted = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Untrusted {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function fault(where: string, expected: string, found: unknown, cause?: unknown) {
  return invalidModelFile({ file: FILE, where, expected, found: describe(found), cause });
}

/** Objects by their keys only: a hostile one may be deep or large. */
function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (isObject(value)) return `an object with ${Object.keys(value).slice(0, 5).map(quoted).join(', ')}`;
  return quoted(JSON.stringify(value) ?? String(value));
}

export function isTokenId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_TOKEN_ID;
}

/** Checks the model of a tokenizer.json. Files written before its type was recorded are told by what they hold. */
export function readModel(value: unknown): ModelJson {
  if (!isObject(value)) throw fault('model', 'an object', value);
  const type = value.type ?? guessedType(value);
  switch (type) {
    case 'BPE':
      return readBpe(value);
    case 'Unigram':
      return readUnigram(value);
    case 'WordPiece':
      return readWordPiece(value);
    case 'WordLevel':
      return readWordLevel(value);
    default:
      throw unsupportedModel(FILE, `a model of type ${quoted(String(type))}`, [
        'BPE',
        'Unigram',
        'WordPiece',
        'WordLevel',
      ]);
  }
}

function guessedType(model: Untrusted): string {
  if (Array.isArray(model.merges)) return 'BPE';
  if (Array.isArray(model.vocab)) return 'Unigram';
  return 'continuing_subword_prefix' in model ? 'WordPiece' : 'unknown';
}

function readBpe(model: Untrusted): BpeModelJson {
  const dropout = model.dropout ?? 0;
  if (dropout !== 0) {
    throw unsupportedModel(FILE, `model.dropout = ${describe(dropout)}`, ['a model without dropout']);
  }
  const vocab = readVocabulary(model.vocab);
  const prefix = text(model, 'continuing_subword_prefix') ?? '';
  return {
    type: 'BPE',
    vocab,
    merges: makeMerges(vocab, readMerges(model.merges), prefix),
    unk_token: text(model, 'unk_token'),
    fuse_unk: model.fuse_unk === true,
    byte_fallback: model.byte_fallback === true,
    ignore_merges: model.ignore_merges === true,
    continuing_subword_prefix: prefix,
    end_of_word_suffix: text(model, 'end_of_word_suffix') ?? '',
    userDefined: [],
    unused: new Set(),
  };
}

function readUnigram(model: Untrusted): UnigramModelJson {
  const entries = model.vocab;
  if (!Array.isArray(entries)) throw fault('model.vocab', 'an array', entries);
  if (entries.length - 1 > MAX_TOKEN_ID)
    throw fault('model.vocab', `at most ${MAX_TOKEN_ID + 1} pieces`, entries.length);
  const vocab = new Map<string, number>();
  const scores = new Float64Array(entries.length);
  for (const [id, entry] of entries.entries()) {
    const [piece, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (typeof piece !== 'string' || typeof score !== 'number') {
      throw fault(`model.vocab[${id}]`, 'a piece and its score', entry);
    }
    scores[id] = score;
    // Of two equal pieces the later one is found, as in the reference.
    vocab.set(piece, id);
  }
  const unknown = model.unk_id ?? null;
  if (unknown !== null && !(isTokenId(unknown) && unknown < entries.length)) {
    throw fault('model.unk_id', `an id below ${entries.length}`, unknown);
  }
  return {
    type: 'Unigram',
    vocab,
    scores,
    unk_id: unknown,
    byte_fallback: model.byte_fallback === true,
    userDefined: [],
    unused: new Set(),
    isScored: () => true,
    isSinglePrecision: false,
  };
}

const DEFAULT_MAX_CHARACTERS = 100;

function readWordPiece(model: Untrusted): WordPieceModelJson {
  const maxCharacters = model.max_input_chars_per_word ?? DEFAULT_MAX_CHARACTERS;
  if (!Number.isSafeInteger(maxCharacters) || (maxCharacters as number) < 1) {
    throw fault('model.max_input_chars_per_word', 'a positive integer', maxCharacters);
  }
  return {
    type: 'WordPiece',
    vocab: readVocabulary(model.vocab),
    unk_token: text(model, 'unk_token') ?? '[UNK]',
    continuing_subword_prefix: text(model, 'continuing_subword_prefix') ?? '##',
    max_input_chars_per_word: maxCharacters as number,
  };
}

function readWordLevel(model: Untrusted): WordLevelModelJson {
  return {
    type: 'WordLevel',
    vocab: readVocabulary(model.vocab),
    unk_token: text(model, 'unk_token') ?? '<unk>',
  };
}

function text(model: Untrusted, key: string): string | null {
  const value = model[key] ?? null;
  if (value === null || typeof value === 'string') return value;
  throw fault(`model.${key}`, 'text', value);
}

export function readVocabulary(value: unknown): Map<string, number> {
  if (!isObject(value)) throw fault('model.vocab', 'an object', value);
  const vocab = new Map<string, number>();
  const isTaken = new Uint8Array(MAX_TOKEN_ID + 1);
  for (const [token, id] of Object.entries(value)) {
    const where = `model.vocab[${quoted(token)}]`;
    if (!isTokenId(id)) throw fault(where, `a token id in 0..${MAX_TOKEN_ID}`, id);
    if (isTaken[id] === 1) {
      const found = `${id}, which another token has too`;
      throw invalidModelFile({ file: FILE, where, expected: 'ids that differ', found });
    }
    isTaken[id] = 1;
    vocab.set(token, id);
  }
  return vocab;
}

function readMerges(value: unknown): readonly (readonly [string, string])[] {
  if (!Array.isArray(value)) throw fault('model.merges', 'an array', value);
  return value.map((merge: unknown, i) => {
    const pair = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((piece) => typeof piece !== 'string')) {
      throw fault(`model.merges[${i}]`, 'a pair of pieces', merge);
    }
    return pair as [string, string];
  });
}

/** Merges in the order of their ranks, as ids. A prefix of the right piece is left out where the two are joined. */
export function makeMerges(
  vocab: ReadonlyMap<string, number>,
  merges: readonly (readonly [string, string])[],
  prefix = '',
): MergesJson {
  if (merges.length > MAX_MERGES) {
    throw fault('the merges', `at most ${MAX_MERGES}`, merges.length);
  }
  const pairs = new Int32Array(3 * merges.length);
  const pieces: string[] = [];
  for (const [piece, id] of vocab) pieces[id] = piece;
  let at = 0;
  // Trained vocabularies number their pieces in the order of the merges: looking one up by its text takes far longer.
  let next = -1;
  for (const [left, right] of merges) {
    const tail = prefix !== '' && right.startsWith(prefix) ? right.slice(prefix.length) : right;
    const leftId = vocab.get(left);
    const rightId = vocab.get(right);
    const isNext = isJoined(pieces[next], left, tail);
    const result = isNext ? next : vocab.get(left + tail);
    if (leftId === undefined || rightId === undefined || result === undefined) {
      throw strangeMerge(at / 3, left, right);
    }
    pairs[at] = leftId;
    pairs[at + 1] = rightId;
    pairs[at + 2] = result;
    next = result + 1;
    at += 3;
  }
  return { pairs, ranks: Int32Array.from(merges.keys()) };
}

function isJoined(piece: string | undefined, left: string, tail: string): boolean {
  if (piece === undefined || piece.length !== left.length + tail.length) return false;
  return piece.startsWith(left) && piece.endsWith(tail);
}

function strangeMerge(i: number, left: string, right: string) {
  return invalidModelFile({
    file: 'tokenizer',
    where: `merge ${i}`,
    expected: 'pieces of the vocabulary',
    found: `${quoted(left)} ${quoted(right)}`,
  });
}
