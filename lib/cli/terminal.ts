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
  return ({ level, text, fields }) => {
    const line = [
      text,
      ...Object.entries(fields ?? {}).map(([name, value]) => `${name}=${shown(value)}`),
    ].join(' ');
    if (level === 'error') note(`${colors.red('error:')} ${line}`);
    else if (level === 'warn') note(`${colors.yellow('warning:')} ${line}`);
    else if (isVerbose) note(colors.dim(line));
  };
}

/** Plain words as they are, a stack trace on lines of its own, the rest as JSON. */
function shown(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value) ?? String(value);
  if (value.includes('\n')) return `\n${value}\n`;
  return /^[\w./:@-]+$/.test(value) ? value : JSON.stringify(value);
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
