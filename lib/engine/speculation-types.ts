import type { ComputeLayout } from '../native/abi';

interface Guessing {
  /** Tokens guessed per step at most, 1..16. Default 8. */
  readonly maxTokens?: number;
  /** False guesses also where that is measured not to pay. Default true. */
  readonly adaptive?: boolean;
}

/** Guesses that the answer repeats what the sequence says already: quotes, edits, summaries, code. */
export interface PromptLookup extends Guessing {
  readonly mode: 'prompt-lookup';
}

/** The draft model guesses, a smaller one of the same vocabulary that the model was loaded with. */
export interface DraftModelGuessing extends Guessing {
  readonly mode: 'draft-model';
}

/**
 * Several tokens are guessed and checked in one step. The answer is the same, bit for bit, log-probabilities included: a
 * guess counts only when it is what the request's own seed draws in its place.
 */
export type Speculation = 'off' | PromptLookup | DraftModelGuessing;

/** As a model is loaded: a draft model is loaded with it, from a path, a short name or another source. */
export type LoadSpeculation = 'off' | PromptLookup | (DraftModelGuessing & { readonly draftModel: string });

/** What a draft model is and takes; fields as those of ModelInfo. */
export interface DraftModelInfo {
  readonly source: string;
  readonly files: readonly string[];
  readonly family: string;
  readonly name: string | null;
  readonly format: 'gguf' | 'safetensors';
  /** Sequences longer than this are not guessed for. */
  readonly contextLength: number;
  readonly numParameters: number;
  readonly weightBytes: number;
  readonly kvBytes: number;
  readonly scratchBytes: number;
  readonly layouts: Readonly<Partial<Record<ComputeLayout, number>>>;
}
