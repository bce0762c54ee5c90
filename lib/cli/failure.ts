import { CommanderError } from 'commander';
import { AutoglmError } from '../errors';
import { colors, note } from './terminal';

export const EXIT_FAILURE = 1;
/** A wrong command line, as shells have it. */
export const EXIT_USAGE = 2;
/** 128 + the signal's number. */
export const EXIT_INTERRUPTED = 130;

/** Says what failed and what to do about it, and gives the exit code. */
export function reportFailure(error: unknown): number {
  // Commander has printed its message or the help text.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (AutoglmError.is(error)) {
    if (error.code === 'aborted') return EXIT_INTERRUPTED;
    note(`${colors.red('error:')} ${error.message}`);
    if (error.hint !== undefined) note(`${colors.cyan('hint:')} ${error.hint}`);
    return error.code === 'invalid_parameter' ? EXIT_USAGE : EXIT_FAILURE;
  }
  note(`${colors.red('error:')} ${error instanceof Error ? error.message : String(error)}`);
  return EXIT_FAILURE;
}
