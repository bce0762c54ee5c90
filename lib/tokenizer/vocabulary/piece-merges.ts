import { invalidModelFile } from '../../model/model-file-error';
import type { MergesJson } from './tokenizer-json';
import { MAX_MERGES } from './vocabulary-limits';

/** Sum of the squared lengths of all pieces: looking for the cuts of a vocabulary takes that long. Real ones need 2^25. */
const MAX_CUT_WORK = 2 ** 30;

/**
 * The merges of a vocabulary that has ranks for pieces instead: neighbours are joined whose concatenation is the piece with
 * the lowest rank, so each piece has a merge of that rank for every way to cut it in two pieces.
 * `rankOf` is null for pieces that nothing is joined to.
 */
export function mergesOfPieces(
  pieces: ReadonlyMap<string, number>,
  rankOf: (id: number) => number | null,
): MergesJson {
  let work = 0;
  for (const piece of pieces.keys()) work += piece.length ** 2;
  if (work > MAX_CUT_WORK) throw fault('pieces whose squared lengths sum up to 2^30 at most', work);
  const pairs: number[] = [];
  const ranks: number[] = [];
  for (const [piece, id] of pieces) {
    const rank = rankOf(id);
    if (rank === null) continue;
    for (let i = 1; i < piece.length; i += 1) {
      const left = pieces.get(piece.slice(0, i));
      const right = left === undefined ? undefined : pieces.get(piece.slice(i));
      if (left === undefined || right === undefined) continue;
      pairs.push(left, right, id);
      ranks.push(rank);
    }
    if (ranks.length > MAX_MERGES)
      throw fault(`at most ${MAX_MERGES} ways to cut a piece in two`, ranks.length);
  }
  return { pairs: Int32Array.from(pairs), ranks: Int32Array.from(ranks) };
}

function fault(expected: string, found: number) {
  return invalidModelFile({ file: 'tokenizer', where: 'the vocabulary', expected, found: `${found}` });
}

/** Ranks from scores: the highest score is rank 0, equal scores have equal ranks. */
export function ranksFromScores(
  ids: Iterable<number>,
  scores: ArrayLike<number>,
): ReadonlyMap<number, number> {
  const sorted = [...ids].sort((a, b) => (scores[b] as number) - (scores[a] as number));
  const ranks = new Map<number, number>();
  let rank = -1;
  let last = Number.NaN;
  for (const id of sorted) {
    const score = scores[id] as number;
    if (score !== last) rank += 1;
    last = score;
    ranks.set(id, rank);
  }
  return ranks;
}
