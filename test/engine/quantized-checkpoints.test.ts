import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine } from '../../dist/index.js';
import { openCheckpoint } from '../../lib/model/checkpoint';
import { describeDecoder } from '../../lib/model/families/registry';
import { estimateMemory } from '../../lib/model/memory-estimate';
import { fixturePath, fixtureReference, relativeError, STORED_FIXTURES } from '../parity/fixtures';

let engine: Engine;
let folder: string;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  folder = mkdtempSync(join(tmpdir(), 'autoglm-quantized-'));
});
afterAll(async () => {
  await engine.close();
  rmSync(folder, { recursive: true });
});

const OPTIONS = { contextLength: 256, kvCache: { memory: '4MiB' } } as const;

/**
 * int8 activations per group of 32 cost about 1 % of a product of random numbers, four products deep; a wrong scale,
 * zero or order costs all of it.
 */
const MAX_FAST_ERROR = 0.08;

// Goal: the int8 products of every stored format compute the same model as the exact ones, which test/parity compares.
test.each(STORED_FIXTURES)('%s in fast precision stays near the reference', async (name) => {
  const model = await engine.loadModel({ source: fixturePath(name), precision: 'fast', ...OPTIONS });
  try {
    const { spec, tensors } = describeDecoder(await openCheckpoint(fixturePath(name)));
    const size = {
      spec,
      tensors,
      kvDtype: 'bf16',
      contextLength: 1,
      concurrency: 1,
      maxStepTokens: 16,
      threads: 1,
    } as const;
    const { weightBytes } = estimateMemory({ ...size, precision: 'fast' });
    expect(weightBytes / model.info.weightBytes, 'estimated and used memory').toBeCloseTo(1, 2);
    const { vocabSize, prompts } = fixtureReference(name);
    for (const { tokens, positions, logits } of prompts) {
      const actual = await model.logits(tokens, { positions });
      for (const [i, expected] of logits.entries()) {
        const error = relativeError(actual.subarray(i * vocabSize, (i + 1) * vocabSize), expected);
        expect(error, `prompt of ${tokens.length} tokens, position ${positions[i]}`).toBeLessThan(
          MAX_FAST_ERROR,
        );
      }
    }
  } finally {
    await model.close();
  }
});

interface SafetensorsEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** A copy of a checkpoint with the bytes of one tensor changed. */
function damaged(name: string, tensor: string, change: (bytes: Buffer) => void): string {
  const copy = join(folder, `${name}-${tensor}`);
  cpSync(fixturePath(name), copy, { recursive: true });
  const path = join(copy, 'model.safetensors');
  const bytes = readFileSync(path);
  const dataStart = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, dataStart)) as Record<string, SafetensorsEntry>;
  const [begin, end] = header[tensor]?.data_offsets ?? [0, 0];
  change(bytes.subarray(dataStart + begin, dataStart + end));
  writeFileSync(path, bytes);
  return copy;
}

describe('a quantized checkpoint is refused when', () => {
  const layer = 'model.layers.0';
  test.each<[string, () => string, RegExp]>([
    [
      'a column belongs to no group',
      () => damaged('gptq-v2-mixed', `${layer}.mlp.down_proj.g_idx`, (bytes) => bytes.writeInt32LE(9, 4 * 7)),
      /mlp\.down.*column 7 in group 9 of 2/,
    ],
    [
      'columns are not in the order that the config promises',
      () => damaged('gptq-v1-sym', `${layer}.self_attn.q_proj.g_idx`, (bytes) => bytes.writeInt32LE(1, 0)),
      /attention\.q.*column 0 in group 1, although its groups are in order/,
    ],
    [
      'a zero is not the one that the config promises',
      () => damaged('gptq-v1-sym', `${layer}.mlp.gate_up_proj.qzeros`, (bytes) => bytes.writeUInt8(0x73, 4)),
      /mlp\.gate.*a zero of 4, although it is symmetric around 8/,
    ],
  ])('%s', async (_name, make, message) => {
    await expect(engine.loadModel({ source: make(), ...OPTIONS })).rejects.toMatchObject({
      code: 'invalid_model_file',
      message: expect.stringMatching(message),
    });
  });
});
