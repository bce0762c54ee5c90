import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { TuningChoice } from '../../../../../lib/engine/worker/tuning/step-cut';
import { type TuningKey, TuningStore } from '../../../../../lib/engine/worker/tuning/tuning-store';

const KEY: TuningKey = { cpu: 'A Processor', isa: 'avx2', threads: 4, shapes: 'abc' };
const ONE: TuningChoice = { maxPositions: 1, numThreads: 2, chunkPercent: 100 };
const MANY: TuningChoice = { maxPositions: 8192, numThreads: 4, chunkPercent: 400 };

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'autoglm-tuning-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const storeOf = (key: Partial<TuningKey> = {}, version = '1.0.0'): TuningStore =>
  new TuningStore(join(folder, 'tuning'), { ...KEY, ...key }, version);

async function stored(choices: readonly TuningChoice[], store = storeOf()): Promise<TuningStore> {
  store.write(choices);
  await store.close();
  expect(store.failure).toBeNull();
  return store;
}

describe('a tuning store', () => {
  test('gives back what was written, and nothing where nothing was', async () => {
    expect(await storeOf().read()).toEqual({ choices: [], warnings: [] });
    await stored([ONE, MANY]);
    expect(await storeOf().read()).toEqual({ choices: [ONE, MANY], warnings: [] });
  });

  test('adds to what another process has stored', async () => {
    await stored([ONE]);
    await stored([MANY]);
    const better = { ...ONE, chunkPercent: 200 };
    await stored([better]);
    expect((await storeOf().read()).choices).toEqual([better, MANY]);
  });

  test.each<Partial<TuningKey>>([{ cpu: 'Another' }, { isa: 'plain' }, { threads: 3 }, { shapes: 'x' }])(
    'keeps apart what does not hold for it: %o',
    async (other) => {
      await stored([ONE]);
      expect(await storeOf(other).read()).toEqual({ choices: [], warnings: [] });
      // The same file under the other's name, as from a copied cache.
      writeFileSync(storeOf(other).path, readFileSync(storeOf().path));
      const { choices, warnings } = await storeOf(other).read();
      expect(choices).toEqual([]);
      expect(warnings).toEqual([
        expect.stringMatching(/these tuning results are ignored: \w+ is .*, expected/),
      ]);
    },
  );

  test('replaces what another version has stored, without a word', async () => {
    await stored([ONE], storeOf({}, '0.9.0'));
    expect(await storeOf().read()).toEqual({ choices: [], warnings: [] });
    await stored([MANY]);
    expect((await storeOf().read()).choices).toEqual([MANY]);
  });

  test('ignores a damaged file with a warning, wherever it was cut, and replaces it', async () => {
    const { path } = await stored([ONE]);
    const whole = readFileSync(path);
    for (let length = 0; length < whole.length - 1; length += 7) {
      writeFileSync(path, whole.subarray(0, length));
      const { choices, warnings } = await storeOf().read();
      expect(choices).toEqual([]);
      expect(warnings).toHaveLength(1);
    }
    await stored([MANY]);
    expect(await storeOf().read()).toEqual({ choices: [MANY], warnings: [] });
  });

  test.each<[string, (content: Record<string, unknown>) => void]>([
    ['choices', (content) => Object.assign(content, { choices: {} })],
    ['choices', (content) => Object.assign(content, { choices: Array(6).fill(ONE) })],
    ['a choice', (content) => Object.assign(content, { choices: [null] })],
    ['maxPositions', (content) => Object.assign(content, { choices: [{ ...ONE, maxPositions: 2 }] })],
    ['numThreads', (content) => Object.assign(content, { choices: [{ ...ONE, numThreads: 5 }] })],
    ['numThreads', (content) => Object.assign(content, { choices: [{ ...ONE, numThreads: 0 }] })],
    ['chunkPercent', (content) => Object.assign(content, { choices: [{ ...ONE, chunkPercent: 1e9 }] })],
    ['chunkPercent', (content) => Object.assign(content, { choices: [{ ...ONE, chunkPercent: '100' }] })],
    ['format', (content) => Object.assign(content, { format: '1' })],
  ])('names the field that makes no sense: %s', async (name, spoil) => {
    const { path } = await stored([ONE]);
    const content = JSON.parse(readFileSync(path, 'utf8'));
    spoil(content);
    writeFileSync(path, JSON.stringify(content));
    const { choices, warnings } = await storeOf().read();
    expect(choices).toEqual([]);
    expect(warnings[0]).toMatch(new RegExp(`ignored: ${name}.* is `));
  });

  test('says why it cannot write, and fails nobody', async () => {
    writeFileSync(join(folder, 'tuning'), 'a file where the folder should be');
    const store = storeOf();
    expect((await store.read()).warnings).toHaveLength(1);
    store.write([ONE]);
    await store.close();
    expect(store.failure).toMatch(/ENOTDIR|EEXIST/);
  });

  test('lets many write at once: the file is whole at every moment, and nothing is left beside it', async () => {
    await stored([ONE]);
    const stores = Array.from({ length: 20 }, () => storeOf());
    for (const [i, store] of stores.entries()) store.write([i % 2 === 0 ? ONE : MANY]);
    const closing = Promise.all(stores.map((store) => store.close()));
    for (let i = 0; i < 20; i += 1) {
      const { choices, warnings } = await storeOf().read();
      expect(warnings).toEqual([]);
      expect(choices).toContainEqual(ONE);
    }
    await closing;
    expect(stores.map((store) => store.failure)).toEqual(Array(20).fill(null));
    expect(readdirSync(join(folder, 'tuning'))).toHaveLength(1);
  });
});
