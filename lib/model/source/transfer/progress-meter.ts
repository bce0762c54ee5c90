import type { DownloadProgress } from '../source-types';

/** Often enough for a bar that looks alive, seldom enough to cost nothing. */
const INTERVAL_MS = 100;

/** Turns byte counts into progress events, at most ten a second plus the first and the last. */
export class ProgressMeter {
  readonly #startedAt = performance.now();
  readonly #startBytes: number;
  #reportedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly file: string,
    startBytes: number,
    readonly onProgress: (progress: DownloadProgress) => void,
  ) {
    this.#startBytes = startBytes;
  }

  update(loaded: number, total: number | null): void {
    const now = performance.now();
    if (now - this.#reportedAt < INTERVAL_MS && loaded !== total) return;
    this.#reportedAt = now;
    const seconds = (now - this.#startedAt) / 1000;
    const bytesPerSecond = seconds > 0 ? Math.max(0, loaded - this.#startBytes) / seconds : 0;
    this.onProgress({ file: this.file, loaded, total, bytesPerSecond });
  }
}
