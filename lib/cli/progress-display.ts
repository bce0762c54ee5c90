import type { LoadProgress } from '../engine/load-types';
import { formatBytes, formatSeconds } from './figures';
import { colors } from './terminal';

/** Where the display writes; standard error, or a recorder in tests. */
export interface DisplayTarget {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const BAR_WIDTH = 24;
/** Without a terminal, a line per quarter is enough to see that something moves. */
const PLAIN_STEP = 0.25;
const ERASE_LINE = '\r\u001b[2K';

const TITLES: Readonly<Record<LoadProgress['phase'], string>> = {
  resolve: 'looking for the model',
  download: 'fetching',
  parse: 'reading the headers',
  weights: 'loading the weights',
  ready: 'ready',
};

/** Shows how a model loads: one line that is redrawn on a terminal, a few plain lines for downloads elsewhere. */
export class ProgressDisplay {
  #hasLine = false;
  #file: string | null = null;
  #nextPlain = 0;

  constructor(readonly target: DisplayTarget) {}

  update(progress: LoadProgress): void {
    if (this.target.isTTY === true) this.#draw(progress);
    else if (progress.phase === 'download') this.#printPlain(progress);
  }

  /** Removes the line, before anything else is printed. */
  clear(): void {
    if (this.#hasLine) this.target.write(ERASE_LINE);
    this.#hasLine = false;
  }

  #draw(progress: LoadProgress): void {
    if (progress.phase === 'ready') {
      this.clear();
      return;
    }
    const width = (this.target.columns ?? 80) - 1;
    const line = terminalLine(progress);
    // Colours take no room; without them the line may be cut anywhere.
    const shown =
      line.length > width ? line.slice(0, width) : line.replace(/[━╸]+/, (bar) => colors.cyan(bar));
    this.target.write(`${ERASE_LINE}${shown}`);
    this.#hasLine = true;
  }

  #printPlain({ file = 'file', loaded, total }: LoadProgress): void {
    if (file !== this.#file) {
      this.#file = file;
      this.#nextPlain = PLAIN_STEP;
      this.target.write(`fetching ${file}${total === null ? '' : ` (${formatBytes(total)})`}\n`);
    }
    if (total === null || loaded < this.#nextPlain * total) return;
    const share = Math.floor(loaded / total / PLAIN_STEP) * PLAIN_STEP;
    this.#nextPlain = share + PLAIN_STEP;
    this.target.write(`  ${Math.round(share * 100)} %\n`);
  }
}

function terminalLine({ phase, file, loaded, total, bytesPerSecond }: LoadProgress): string {
  const title = file === undefined ? TITLES[phase] : `${TITLES[phase]} ${file}`;
  if (total === null || total === 0) return loaded > 0 ? `${title}  ${formatBytes(loaded)}` : title;
  const share = Math.min(1, loaded / total);
  const filled = Math.round(share * BAR_WIDTH);
  const bar = `${'━'.repeat(filled)}${' '.repeat(BAR_WIDTH - filled)}`;
  const percent = `${Math.floor(share * 100)}`.padStart(3);
  const parts = [`${title}  ${bar} ${percent} %  ${formatBytes(loaded)} of ${formatBytes(total)}`];
  if (bytesPerSecond !== undefined && bytesPerSecond > 0) {
    parts.push(`${formatBytes(bytesPerSecond)}/s`);
    if (loaded < total) parts.push(`${formatSeconds((total - loaded) / bytesPerSecond)} left`);
  }
  return parts.join('  ');
}
