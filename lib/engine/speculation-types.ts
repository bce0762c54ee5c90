/** Guesses that the answer repeats what the sequence says already: quotes, edits, summaries, code. */
export interface PromptLookup {
  readonly mode: 'prompt-lookup';
  /** Tokens guessed per step at most, 1..16. Default 8. */
  readonly maxTokens?: number;
  /** False guesses also where that is measured not to pay. Default true. */
  readonly adaptive?: boolean;
}

/**
 * Several tokens are guessed and checked in one step. The answer is the same, bit for bit, log-probabilities included: a
 * guess counts only when it is what the request's own seed draws in its place.
 */
export type Speculation = 'off' | PromptLookup;
