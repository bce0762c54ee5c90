/**
 * SentencePiece BPE joins, again and again, the neighbours whose concatenation is the piece with the highest score.
 * As merges: every way to cut a piece in two pieces, better scores first. Ways to make one piece follow each other, so
 * that which of them comes first changes nothing but the place of the join; the shorter ids go first, as in the
 * conversion that made the tokenizer.json files of such models.
 */
export function mergesFromScores(
  tokens: readonly string[],
  scores: Float32Array,
  isNormal: (id: number) => boolean,
): [string, string][] {
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries()) if (isNormal(id)) ids.set(token, id);
  const pieces = [...ids.values()].filter((id) => [...(tokens[id] as string)].length > 1);
  pieces.sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
  return pieces.flatMap((id) => cutsOf(tokens[id] as string, ids));
}

function cutsOf(piece: string, ids: ReadonlyMap<string, number>): [string, string][] {
  const cuts: { readonly pair: [string, string]; readonly left: number; readonly right: number }[] = [];
  for (let i = 1; i < piece.length; i += 1) {
    const left = ids.get(piece.slice(0, i));
    const right = ids.get(piece.slice(i));
    if (left === undefined || right === undefined) continue;
    cuts.push({ pair: [piece.slice(0, i), piece.slice(i)], left, right });
  }
  cuts.sort((a, b) => a.left - b.left || a.right - b.right);
  return cuts.map(({ pair }) => pair);
}
