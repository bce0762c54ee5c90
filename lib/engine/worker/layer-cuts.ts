/** Layers [first, end) on one of several GPUs, by its place among them. */
export interface Stage {
  readonly gpu: number;
  readonly first: number;
  readonly end: number;
}

/**
 * Cuts the layers [first, end) into stages on GPUs in their order, so that the fullest GPU is as little full as can be:
 * in proportion to what is free on each, and within it wherever that is possible. `fullness` says which part of a GPU a
 * stage takes. GPUs may be left out, unless `usesAll`: then there are at least as many layers.
 */
export function cutLayers(
  first: number,
  end: number,
  numGpus: number,
  usesAll: boolean,
  fullness: (stage: Stage) => number,
): readonly Stage[] {
  // The best way to have the layers up to each one on the GPUs so far; null where there is none.
  let best: (Way | null)[] = Array.from({ length: end + 1 }, () => null);
  best[first] = { fullest: 0, stages: [] };
  for (let gpu = 0; gpu < numGpus; gpu += 1) {
    const next: (Way | null)[] = best.map((way) => (usesAll ? null : way));
    for (const [from, way] of best.entries()) {
      if (way === null) continue;
      for (let to = from + 1; to <= end; to += 1) {
        const stage = { gpu, first: from, end: to };
        const fullest = Math.max(way.fullest, fullness(stage));
        if (fullest < (next[to]?.fullest ?? Number.POSITIVE_INFINITY))
          next[to] = { fullest, stages: [...way.stages, stage] };
      }
    }
    best = next;
  }
  return best[end]?.stages ?? [];
}

interface Way {
  readonly fullest: number;
  readonly stages: readonly Stage[];
}
