/** How a step's work is cut for the threads; native/base/step_cut.h. No choice changes a result. */
export interface StepCut {
  /** Threads that take part, 1..the pool's. */
  readonly numThreads: number;
  /** Work in one chunk of a product, in percent of what suits most machines. */
  readonly chunkPercent: number;
}

/** The cut for steps of up to `maxPositions` token positions, and of more than the entry before it is for. */
export interface TuningChoice extends StepCut {
  readonly maxPositions: number;
}

/** Steps of alike sizes wait for alike things: one row for memory, many for arithmetic. The last bound is a step's limit. */
export const SIZE_BOUNDS: readonly number[] = [1, 4, 16, 64, 8192];

export const MIN_CHUNK_PERCENT = 25;
export const MAX_CHUNK_PERCENT = 800;

export const untunedCut = (numThreads: number): StepCut => ({ numThreads, chunkPercent: 100 });

/** A change to try: null where it would lead too far. One that gains is tried again on what it led to. */
type Move = (cut: StepCut) => StepCut | null;

/** In this order. Chunks that gained by growing need not be tried smaller: that is where they came from. */
export const MOVES: readonly Move[] = [
  (cut) => (cut.numThreads === 1 ? null : { ...cut, numThreads: Math.ceil(cut.numThreads / 2) }),
  (cut) => withChunks(cut, 2 * cut.chunkPercent),
  (cut) => (cut.chunkPercent > 100 ? null : withChunks(cut, cut.chunkPercent / 2)),
];

function withChunks(cut: StepCut, chunkPercent: number): StepCut | null {
  return chunkPercent < MIN_CHUNK_PERCENT || chunkPercent > MAX_CHUNK_PERCENT
    ? null
    : { ...cut, chunkPercent };
}
