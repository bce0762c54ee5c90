/**
 * Ends a model's reasoning after a number of tokens: the request is given up, and another one goes on whose prompt has the
 * tokens so far and the end of the reasoning. The prefix cache has most of what is computed again.
 */
export class ReasoningBudget {
  readonly #limit: number;
  readonly #prompt: Int32Array;
  #isSpent = false;

  /** `prompt` is copied: the engine takes the original. */
  constructor(limit: number, prompt: Int32Array) {
    this.#limit = limit;
    this.#prompt = prompt.slice();
  }

  /** True once, when the reasoning has to end here. */
  spends(numReasoningTokens: number): boolean {
    if (this.#isSpent || numReasoningTokens < this.#limit) return false;
    this.#isSpent = true;
    return true;
  }

  /** The prompt that goes on after the generated tokens and the end of the reasoning. */
  continuation(generated: readonly number[], closing: Int32Array): Int32Array {
    const tokens = new Int32Array(this.#prompt.length + generated.length + closing.length);
    tokens.set(this.#prompt);
    tokens.set(generated, this.#prompt.length);
    tokens.set(closing, this.#prompt.length + generated.length);
    return tokens;
  }
}
