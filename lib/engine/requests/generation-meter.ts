import { monotonicMs } from '../clock';
import type { Timings, Usage } from '../types';

/** Counts a generation's tokens and notes its times: what its usage and timings are made of. */
export class GenerationMeter {
  readonly callAt = monotonicMs();
  numPromptTokens = 0;
  numReasoningTokens = 0;
  #numCachedTokens = 0;
  #numDrafted = 0;
  #numAccepted = 0;
  #startedAt: number | null = null;
  #firstTokenAt: number | null = null;

  /** A request that goes on with the answer starts again: the first time counts. */
  started(at: number, cachedTokens: number): void {
    if (this.#startedAt !== null) return;
    this.#startedAt = at;
    this.#numCachedTokens = cachedTokens;
  }

  token(at: number, isReasoning: boolean): void {
    this.#firstTokenAt ??= at;
    if (isReasoning) this.numReasoningTokens += 1;
  }

  drafted(numDrafted: number, numAccepted: number): void {
    this.#numDrafted += numDrafted;
    this.#numAccepted += numAccepted;
  }

  usage(completionTokens: number): Usage {
    return {
      promptTokens: this.numPromptTokens,
      completionTokens,
      reasoningTokens: this.numReasoningTokens,
      cachedTokens: this.#numCachedTokens,
      draftedTokens: this.#numDrafted,
      acceptedTokens: this.#numAccepted,
    };
  }

  timings(endAt: number, completionTokens: number): Timings {
    const startedAt = this.#startedAt ?? endAt;
    const firstTokenAt = this.#firstTokenAt ?? endAt;
    const decodeMs = endAt - firstTokenAt;
    const numDecoded = completionTokens - 1;
    return {
      queueMs: startedAt - this.callAt,
      prefillMs: firstTokenAt - startedAt,
      ttftMs: firstTokenAt - this.callAt,
      decodeMs,
      totalMs: endAt - this.callAt,
      tokensPerSecond: numDecoded > 0 && decodeMs > 0 ? (1000 * numDecoded) / decodeMs : 0,
    };
  }
}
