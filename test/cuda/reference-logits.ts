import { expect } from 'vitest';
import type { Model } from '../../lib/engine/types';
import { fixtureReference, relativeError } from '../parity/fixtures';

/** bf16 activations and weights of few layers; the largest error as a share of the reference's largest logit. */
export const MAX_RELATIVE_ERROR = 0.05;

/** Logits of the fixture's first prompt, beside those of the reference implementation. */
export async function expectReferenceLogits(
  model: Model,
  name: string,
  maxRelativeError = MAX_RELATIVE_ERROR,
): Promise<void> {
  const { vocabSize, prompts } = fixtureReference(name);
  const [{ tokens, positions, logits }] = prompts as [(typeof prompts)[number]];
  const actual = await model.logits(tokens, { positions });
  for (const [i, position] of positions.entries()) {
    const row = actual.subarray(i * vocabSize, (i + 1) * vocabSize);
    const error = relativeError(row, logits[i] as Float32Array);
    expect(error, `position ${position}`).toBeLessThanOrEqual(maxRelativeError);
  }
}
