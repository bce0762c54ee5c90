import { quoted, unsupportedModel } from '../../model/model-file-error';

const MAX_PATTERN_LENGTH = 4096; // reliability: regular expressions of a model are at most 4 KiB

/**
 * Refuses regular expressions of a model file that could take exponential time: a repeated group that itself contains an
 * unbounded repetition. The patterns of real tokenizers have none.
 */
export function checkPattern(pattern: string): void {
  const refuse = (why: string) =>
    unsupportedModel('tokenizer.json: pre_tokenizer', `the pattern ${quoted(pattern)}: ${why}`, [
      `patterns of at most ${MAX_PATTERN_LENGTH} characters without repetitions inside repetitions`,
    ]);
  if (pattern.length > MAX_PATTERN_LENGTH) throw refuse(`it has ${pattern.length} characters`);
  // One flag per open group: whether it holds an unbounded repetition so far.
  const groups = [false];
  let closedGroupRepeats = false;
  for (let i = 0; i < pattern.length; i += 1) {
    const character = pattern[i];
    const quantifier = unboundedQuantifierAt(pattern, i);
    if (quantifier > 0) {
      if (closedGroupRepeats) throw refuse('it repeats a group that repeats');
      groups[groups.length - 1] = true;
      i += quantifier - 1;
      continue;
    }
    closedGroupRepeats = false;
    if (character === '\\') i += 1;
    else if (character === '[') i = endOfClass(pattern, i);
    else if (character === '(') groups.push(false);
    else if (character === ')') {
      closedGroupRepeats = groups.length > 1 ? (groups.pop() as boolean) : false;
      if (closedGroupRepeats) groups[groups.length - 1] = true;
    }
  }
}

/** Length of `*`, `+` or `{n,}` at a position, else 0. */
function unboundedQuantifierAt(pattern: string, start: number): number {
  const character = pattern[start];
  if (character === '*' || character === '+') return 1;
  if (character !== '{') return 0;
  return /^\{\d+,\}/.exec(pattern.slice(start, start + 16))?.[0].length ?? 0;
}

/** Index of the `]` that closes the class opened at `start`; classes may nest. */
function endOfClass(pattern: string, start: number): number {
  let depth = 0;
  for (let i = start; i < pattern.length; i += 1) {
    const character = pattern[i];
    if (character === '\\') i += 1;
    else if (character === '[') depth += 1;
    else if (character === ']') {
      depth -= 1;
      if (depth === 0) return i;
    }
  }
  return pattern.length;
}
