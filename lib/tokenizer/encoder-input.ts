import { AutoglmError } from '../errors';
import type { Tokenizer } from './tokenizer';

/** A text, or two, for a model that makes one vector of its input. */
export interface EncoderInputRequest {
  readonly text: string;
  readonly second: string | null;
  /** Tokens of the whole input, special ones included. */
  readonly maxTokens: number;
  /** Cuts what is longer instead of refusing it. */
  readonly truncates: boolean;
}

export interface EncoderInput {
  readonly tokens: Int32Array;
  /** Index of the first token of type 1; 0 for none. */
  readonly secondSegment: number;
  /** Tokens the input would have without a limit. */
  readonly fullLength: number;
}

/** Texts to the tokens of one input, special tokens around them. */
export function encodeInput(tokenizer: Tokenizer, request: EncoderInputRequest): EncoderInput {
  const { text, second, maxTokens, truncates } = request;
  const first = tokenizer.encode(text);
  const last = second === null ? new Int32Array(0) : tokenizer.encode(second);
  const { prefix, between, suffix, hasSecondType } = templateOf(tokenizer, second !== null);
  const numSpecial = prefix.length + between.length + suffix.length;
  const fullLength = numSpecial + first.length + last.length;
  const room = maxTokens - numSpecial;
  if (fullLength > maxTokens && (!truncates || room < 1)) throw tooLong(fullLength, maxTokens, truncates);
  const [firstKept, lastKept] = keptLengths(first.length, last.length, room);
  const tokens = Int32Array.from([
    ...prefix,
    ...first.subarray(0, firstKept),
    ...between,
    ...last.subarray(0, lastKept),
    ...suffix,
  ]);
  const secondStart = prefix.length + firstKept + between.length;
  const hasSecond = hasSecondType && second !== null && secondStart < tokens.length;
  return { tokens, secondSegment: hasSecond ? secondStart : 0, fullLength };
}

function templateOf(tokenizer: Tokenizer, isPair: boolean) {
  if (!isPair) return { ...tokenizer.boundaries, between: [], hasSecondType: false };
  if (tokenizer.pairTemplate !== null) return tokenizer.pairTemplate;
  throw new AutoglmError('unsupported_model', 'this model’s tokenizer has no template for a pair of texts', {
    hint: 'Give single texts.',
  });
}

/** The longer text is cut first; what is left over is shared evenly. Source: truncate_encodings of tokenizers. */
function keptLengths(first: number, second: number, room: number): readonly [number, number] {
  if (first + second <= room) return [first, second];
  const shorter = Math.min(first, second);
  const longer = Math.max(shorter, room - shorter);
  const [low, high] =
    shorter + longer > room ? [Math.floor(room / 2), Math.ceil(room / 2)] : [shorter, longer];
  return first > second ? [high, low] : [low, high];
}

function tooLong(length: number, maxTokens: number, truncates: boolean): AutoglmError {
  return new AutoglmError(
    'context_length_exceeded',
    `the input has ${length} tokens, the model takes ${maxTokens}`,
    {
      hint: truncates
        ? 'The special tokens alone do not fit.'
        : 'Shorten the text, or cut it with truncate: true.',
      details: { promptTokens: length, contextLength: maxTokens },
    },
  );
}
