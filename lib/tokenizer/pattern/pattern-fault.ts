import type { AutoglmError } from '../../errors';
import { quoted, unsupportedModel } from '../../model/model-file-error';

/** Regular expressions of real tokenizers have up to 400 characters. */
export const MAX_PATTERN_LENGTH = 4096;

/** The expression is broken, too large, or uses what a linear-time matcher cannot do. */
export function patternFault(pattern: string, why: string): AutoglmError {
  return unsupportedModel('tokenizer', `the pattern ${quoted(pattern)}: ${why}`, [
    `regular expressions of at most ${MAX_PATTERN_LENGTH} characters with classes, groups, repetitions, anchors, and looks ahead and behind`,
  ]);
}
