import { describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../lib/model/checkpoint';
import { describeDecoder } from '../../lib/model/families/registry';
import { FIXTURES, fixturePath, fixtureReference, relativeError } from './fixtures';
import { referenceDecoder } from './reference-decoder';

// Goal: what the families say about a checkpoint is right, whatever the native decoder makes of it.
// Method: plain float64 loops execute the description; transformers' float32 logits are the reference. What is left is
// the reference's own rounding: 2e-5 of the largest logit at worst. A wrong rope style, row or norm shows as > 1e-2.
const MAX_RELATIVE_ERROR = 1e-4;

describe.each(FIXTURES)('%s', (name) => {
  test('its description computes the logits of transformers', async () => {
    const checkpoint = await openCheckpoint(fixturePath(name));
    const { spec, tensors, info } = describeDecoder(checkpoint);
    const expected = name.endsWith('-seeing') ? ['text_only'] : [];
    expect(info.warnings.map(({ code }) => code)).toEqual(expected);
    const compute = referenceDecoder(spec, checkpoint.files, tensors);
    for (const prompt of fixtureReference(name).prompts) {
      const logits = compute(prompt.tokens);
      for (const [i, position] of prompt.positions.entries()) {
        const error = relativeError(logits[position] as number[], prompt.logits[i] as Float32Array);
        expect(error, `prompt of ${prompt.tokens.length} tokens, position ${position}`).toBeLessThanOrEqual(
          MAX_RELATIVE_ERROR,
        );
      }
    }
  });
});
