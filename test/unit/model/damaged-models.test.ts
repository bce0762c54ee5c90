import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AutoglmError } from '../../../lib/errors';
import { openCheckpoint } from '../../../lib/model/checkpoint';
import { describeDecoder } from '../../../lib/model/families/registry';
import { seededRandom } from './memory-source';

const models = join(__dirname, '..', '..', 'fixtures', 'models');
const ROUNDS = 150;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'damaged-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** Opens and describes; anything but a description or a typed error about the file fails the test. */
async function survives(path: string, round: number): Promise<boolean> {
  try {
    const { tensors } = describeDecoder(await openCheckpoint(path));
    expect(tensors.length).toBeGreaterThan(0);
    return true;
  } catch (error) {
    expect(error, `round ${round}`).toBeInstanceOf(AutoglmError);
    expect(['invalid_model_file', 'unsupported_model'], `round ${round}`).toContain(
      (error as AutoglmError).code,
    );
    return false;
  }
}

/** Replaces 1 to 4 bytes within the first `length`. */
function damage(bytes: Buffer, length: number, random: () => number): Buffer {
  const damaged = Buffer.from(bytes);
  for (let edits = 1 + Math.floor(random() * 4); edits > 0; edits -= 1) {
    damaged[Math.floor(random() * length)] = Math.floor(random() * 256);
  }
  return damaged;
}

// Goal: no damage to a header or a config does more than refuse the file. Seeded, so that a round can be run again.
test.each(['llama-q4_0', 'chatglm-q4_1', 'qwen3-q8_0'])('%s.gguf', async (name) => {
  const sound = readFileSync(join(models, `${name}.gguf`));
  const random = seededRandom(11);
  const path = join(directory, 'model.gguf');
  let numSound = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    // The settings come first; most later bytes are the vocabulary, where damage is just another token.
    const length = round % 2 === 0 ? 1500 : 18_000;
    writeFileSync(path, damage(sound, length, random));
    if (await survives(path, round)) numSound += 1;
  }
  expect(numSound).toBeLessThan(ROUNDS);
});

test.each(['config.json', 'model.safetensors', 'generation_config.json', 'tokenizer_config.json'])(
  'glm4-bf16: %s',
  async (file) => {
    cpSync(join(models, 'glm4-bf16'), directory, { recursive: true });
    const sound = readFileSync(join(directory, file));
    const random = seededRandom(13);
    let numSound = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      writeFileSync(join(directory, file), damage(sound, Math.min(sound.length, 3000), random));
      if (await survives(directory, round)) numSound += 1;
    }
    expect(numSound).toBeLessThan(ROUNDS);
  },
);

test('damage to the shard index', async () => {
  cpSync(join(models, 'qwen3-sharded'), directory, { recursive: true });
  const path = join(directory, 'model.safetensors.index.json');
  const sound = readFileSync(path);
  const random = seededRandom(17);
  for (let round = 0; round < ROUNDS; round += 1) {
    writeFileSync(path, damage(sound, sound.length, random));
    await survives(directory, round);
  }
});
