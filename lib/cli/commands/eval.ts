import type { Model } from '../../engine/types';
import { AutoglmError } from '../../errors';
import { Interrupt } from '../interrupt';
import { readTextFile, withModel } from '../open-model';
import type { ModelFlags } from '../options';
import { readStandardInput } from '../standard-input';
import { answer, answerJson, note } from '../terminal';

export interface PerplexityFlags extends ModelFlags {
  readonly window?: number;
  readonly limit?: number;
  readonly json?: boolean;
}

export interface Perplexity {
  readonly perplexity: number;
  /** Standard error of the perplexity, from the spread of the tokens' log-probabilities. */
  readonly standardError: number;
  /** Tokens whose log-probability was counted. */
  readonly numTokens: number;
  readonly numWindows: number;
  readonly window: number;
}

/** Long enough for the context to matter, short enough for any model. */
const DEFAULT_WINDOW = 512;

/** Measures how well a model predicts a text: a file, or standard input. */
export async function perplexity(
  source: string,
  file: string | undefined,
  flags: PerplexityFlags,
): Promise<number> {
  const text =
    file === undefined || file === '-'
      ? await readStandardInput('the text')
      : await readTextFile(file, 'the text');
  const interrupt = new Interrupt();
  try {
    const result = await withModel(source, flags, interrupt.signal, (model) =>
      measurePerplexity(model, text, flags, interrupt.signal),
    );
    if (flags.json === true) answerJson(result);
    else answer(`perplexity ${result.perplexity.toFixed(4)} +/- ${result.standardError.toFixed(4)}`);
    if (flags.quiet !== true)
      note(`${result.numTokens} tokens in ${result.numWindows} windows of ${result.window}`);
    return 0;
  } finally {
    interrupt.stop();
  }
}

/**
 * The text is cut into windows, each begun as the tokenizer begins a text; of each, the second half is scored, so that
 * every scored token has at least half a window before it.
 */
export async function measurePerplexity(
  model: Model,
  text: string,
  flags: PerplexityFlags,
  signal: AbortSignal,
): Promise<Perplexity> {
  const window = Math.min(flags.window ?? DEFAULT_WINDOW, model.info.contextLength);
  if (!Number.isInteger(window) || window < 4) {
    throw new AutoglmError(
      'invalid_parameter',
      `expected --window to be an integer of at least 4, got ${window}`,
    );
  }
  const prefix = await model.tokenize('', { addSpecialTokens: true });
  const tokens = await model.tokenize(text);
  const share = window - prefix.length;
  const numWindows = Math.min(Math.floor(tokens.length / share), flags.limit ?? Number.POSITIVE_INFINITY);
  if (numWindows < 1) {
    throw new AutoglmError(
      'invalid_parameter',
      `the text has ${tokens.length} tokens, a window takes ${share}`,
      {
        hint: 'Give a longer text or a smaller --window.',
      },
    );
  }
  const logprobs: number[] = [];
  for (let i = 0; i < numWindows; i += 1) {
    const piece = [...prefix, ...tokens.subarray(i * share, (i + 1) * share)];
    const scores = await model.score(piece, { signal });
    logprobs.push(...scores.subarray(Math.floor(window / 2)));
  }
  return { ...summarize(logprobs), numWindows, window };
}

function summarize(logprobs: readonly number[]): Omit<Perplexity, 'numWindows' | 'window'> {
  const n = logprobs.length;
  const mean = logprobs.reduce((sum, value) => sum + value, 0) / n;
  const variance = logprobs.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, n - 1);
  const perplexityValue = Math.exp(-mean);
  // The logarithm's standard error, carried through the exponential.
  return {
    perplexity: perplexityValue,
    standardError: perplexityValue * Math.sqrt(variance / n),
    numTokens: n,
  };
}
