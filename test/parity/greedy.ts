import { expect } from 'vitest';
import type { Model } from '../../dist/index.js';

export interface GreedyReference {
  readonly tokens: readonly number[];
  readonly newTokens: readonly number[];
  /** Whether the margin between the two best logits is wide enough for only one choice to be right. */
  readonly isDecided: (i: number) => boolean;
}

/**
 * Expects greedy decoding to choose the reference's tokens. Where the margin leaves the choice open and the model chose
 * the other token, decoding starts anew behind the reference's, so that every decided token is compared.
 * Returns how many were.
 */
export async function expectGreedy(
  model: Model,
  { tokens, newTokens, isDecided }: GreedyReference,
): Promise<number> {
  let numDecided = 0;
  let done = 0;
  while (done < newTokens.length) {
    const prompt = [...tokens, ...newTokens.slice(0, done)];
    const maxTokens = newTokens.length - done;
    const { tokens: chosen } = await model.generate({
      tokens: prompt,
      maxTokens,
      temperature: 0,
      ignoreEos: true,
    });
    expect(chosen).toHaveLength(maxTokens);
    for (const token of chosen) {
      const expected = newTokens[done] as number;
      if (isDecided(done)) {
        expect(token, `token ${done} behind a prompt of ${tokens.length}`).toBe(expected);
        numDecided += 1;
      }
      done += 1;
      if (token !== expected) break;
    }
  }
  return numDecided;
}
