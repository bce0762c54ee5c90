import { createColors } from 'picocolors';
import type { Logger } from '../engine/types';

// Standard output carries the answer and nothing else; everything for people goes to standard error.

const isErrorTerminal = process.stderr.isTTY === true;
const wantsColors = isErrorTerminal && !process.env.NO_COLOR && process.env.TERM !== 'dumb';

export const colors = createColors(wantsColors);

/** One line for people. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** The answer of a command, with a newline at its end. */
export function answer(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

/** The answer for programs: one JSON document. */
export function answerJson(value: unknown): void {
  answer(JSON.stringify(value, null, 2));
}

/** Shows warnings and errors, and everything with `isVerbose`. */
export function terminalLogger(isVerbose: boolean): Logger {
  return ({ level, text }) => {
    if (level === 'error') note(`${colors.red('error:')} ${text}`);
    else if (level === 'warn') note(`${colors.yellow('warning:')} ${text}`);
    else if (isVerbose) note(colors.dim(text));
  };
}

/** Ends quietly when the reader of our output has gone, as `run ... | head` does. */
export function endOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }
}
