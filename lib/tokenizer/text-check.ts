import { AutoglmError } from '../errors';

/** Characters (UTF-16 units) per token of the context: more than any text has that is not white space or one letter. */
const UNITS_PER_TOKEN = 16;
const MIN_TEXT_LENGTH = 65_536;

/**
 * The longest text worth tokenizing for a context. Tokenizing costs up to a microsecond per character of hostile text
 * (bench/tokenizers.mjs), so without a limit one request could keep the text worker from all others for minutes.
 */
export function maxTextLengthFor(contextLength: number): number {
  return Math.max(MIN_TEXT_LENGTH, UNITS_PER_TOKEN * contextLength);
}

export interface TextLimit {
  readonly maxTextLength: number;
  readonly contextLength: number;
  /** UTF-16 units of the longest token. */
  readonly longestToken: number;
}

/** Refuses text that is too long, or is no text: a lone surrogate stands for no character. NUL is a character. */
export function checkText(text: string, limit: TextLimit): void {
  if (text.length > limit.maxTextLength) throw tooLong(text.length, limit);
  const surrogate = /\p{Surrogate}/u.exec(text);
  if (surrogate === null) return;
  const unit = text.charCodeAt(surrogate.index).toString(16).toUpperCase();
  throw new AutoglmError(
    'invalid_parameter',
    `expected well-formed text, found the lone surrogate U+${unit} at index ${surrogate.index}`,
    {
      hint: 'Cut strings between characters, or repair them with String.prototype.toWellFormed().',
      details: { index: surrogate.index },
    },
  );
}

function tooLong(length: number, { maxTextLength, contextLength, longestToken }: TextLimit): AutoglmError {
  const minTokens = Math.ceil(length / longestToken);
  const details = { length, maxTextLength, contextLength };
  if (minTokens > contextLength) {
    return new AutoglmError(
      'context_length_exceeded',
      `the text has ${length} characters, which is at least ${minTokens} tokens; the model's context is ${contextLength}`,
      { hint: 'Shorten the text.', details },
    );
  }
  return new AutoglmError(
    'invalid_parameter',
    `the text has ${length} characters; at most ${maxTextLength} are tokenized for a context of ${contextLength} tokens`,
    { hint: 'Shorten the text, or tokenize it in parts.', details },
  );
}
