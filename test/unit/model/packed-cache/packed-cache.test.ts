import {
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PackedCache } from '../../../../lib/model/packed-cache/packed-cache';
import { describeEntries, removePacked } from '../../../../lib/model/packed-cache/packed-contents';
import { SECTION_BYTES } from '../../../../lib/model/packed-cache/packed-header';
import { isolateCaches } from '../source/isolated-caches';

const caches = isolateCaches();
const IDENTITY = Buffer.alloc(32, 7);
const SAMPLE = '0123456789abcdef';
const CHECKSUMS = Int32Array.of(1, -2);
const WEIGHTS = Buffer.from('packed weights');
/** Linux lets nobody make a file beside it, whoever they are. */
const READ_ONLY_FILE = '/sys/kernel/uevent_seqnum';

let models: string;
beforeEach(() => {
  models = mkdtempSync(join(tmpdir(), 'open-autoglm-models-'));
});
afterEach(() => rmSync(models, { recursive: true, force: true }));

function modelFile(name = 'tiny.gguf', folder = models): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, name);
  writeFileSync(path, 'a model');
  return path;
}

const cacheOf = (path: string, identity = IDENTITY): Promise<PackedCache> =>
  PackedCache.at(path, 'fast', identity);

/** What native/model/packed_file.cpp does, for bytes that fit one section. */
async function write(path: string, offset: number): Promise<Int32Array> {
  const handle = await open(path, 'r+');
  await handle.write(WEIGHTS, 0, WEIGHTS.length, offset);
  await handle.close();
  return CHECKSUMS;
}

const keep = (cache: PackedCache, changes: Partial<Parameters<PackedCache['keep']>[0]> = {}) =>
  cache.keep({
    sample: SAMPLE,
    byteLength: WEIGHTS.length,
    maxBytes: 2 ** 30,
    isReplacing: false,
    signal: new AbortController().signal,
    write,
    ...changes,
  });

const edit = (path: string, at: number, byte: number): void => {
  const bytes = readFileSync(path);
  bytes[at] = byte;
  writeFileSync(path, bytes);
};

describe('packed weights on disk', () => {
  test('are found again, with everything native needs to check them', async () => {
    const model = modelFile();
    const path = await keep(await cacheOf(model));
    expect(path).toBe(`${model}.fast.packed`);
    const { packed, refusals } = await (await cacheOf(model)).find(true);
    expect(refusals).toEqual([]);
    expect(packed).toEqual({
      path,
      offset: 65_536,
      byteLength: WEIGHTS.length,
      sectionBytes: SECTION_BYTES,
      checksums: CHECKSUMS,
      sample: SAMPLE,
      isShared: true,
    });
    expect(readFileSync(path ?? '').subarray(packed?.offset)).toEqual(WEIGHTS);
    expect(readdirSync(models).sort()).toEqual(['tiny.gguf', 'tiny.gguf.fast.packed']);
  });

  test('are nothing to talk about where there are none', async () => {
    expect(await (await cacheOf(modelFile())).find(false)).toEqual({ packed: null, refusals: [] });
  });

  test.each<[string, RegExp, (path: string) => void]>([
    ['from another format version', /has format version 9, this package reads 1/, (path) => edit(path, 8, 9)],
    ['of another kind', /is not a file of packed weights/, (path) => edit(path, 0, 0)],
    ['empty', /is not a file of packed weights/, (path) => truncateSync(path, 0)],
    ['cut in the header', /its header alone has 65536/, (path) => truncateSync(path, 65_535)],
    ['cut in the weights', /has 65549 bytes, expected 65550/, (path) => truncateSync(path, 65_549)],
    ['with a length that is none', /has a header of \d+ bytes/, (path) => edit(path, 15, 255)],
    ['with a flipped bit in the identity', /has a damaged header/, (path) => edit(path, 40, 8)],
    ['with a flipped bit in a checksum', /has a damaged header/, (path) => edit(path, 200, 99)],
  ])('%s are refused with a reason, and replaced', async (_name, reason, damage) => {
    const cache = await cacheOf(modelFile());
    const path = (await keep(cache)) ?? '';
    damage(path);
    const { packed, refusals } = await cache.find(false);
    expect(packed).toBeNull();
    expect(refusals).toEqual([expect.stringMatching(reason)]);
    expect(refusals[0]).toContain(path);
    expect(await keep(cache)).toBe(path);
    expect((await cache.find(false)).refusals).toEqual([]);
  });

  test('of another model that had this name are refused and replaced', async () => {
    const model = modelFile();
    await keep(await cacheOf(model));
    const other = await cacheOf(model, Buffer.alloc(32, 8));
    const { packed, refusals } = await other.find(false);
    expect(packed).toBeNull();
    expect(refusals).toEqual([expect.stringMatching(/made from other files/)]);
    expect(await keep(other)).not.toBeNull();
    expect((await other.find(false)).packed).not.toBeNull();
  });

  test('lie in the cache folder when there is no room for them beside the model', async () => {
    const model = modelFile(`${'n'.repeat(245)}.gguf`); // its packed weights would have too long a name
    const path = await keep(await cacheOf(model));
    expect(path?.startsWith(join(caches.folder, 'own', 'packed'))).toBe(true);
    expect((await (await cacheOf(model)).find(false)).packed?.path).toBe(path);
  });

  test('of a fetched model stay out of the folders that are managed', async () => {
    const model = modelFile('fetched.gguf', join(caches.folder, 'own', 'pip', 'one'));
    const path = await keep(await cacheOf(model));
    expect(path?.startsWith(join(caches.folder, 'own', 'packed'))).toBe(true);
    expect(readdirSync(join(caches.folder, 'own', 'pip', 'one'))).toEqual(['fetched.gguf']);
  });

  test('of a directory lie in it', async () => {
    const folder = join(models, 'checkpoint');
    mkdirSync(folder);
    expect(await keep(await cacheOf(folder))).toBe(join(folder, 'weights.fast.packed'));
  });

  test('are kept although nothing can be noted in the cache folder', async () => {
    process.env.OPEN_AUTOGLM_CACHE = join(modelFile('a-file'), 'cache');
    const cache = await cacheOf(modelFile());
    expect(await keep(cache)).not.toBeNull();
    expect((await cache.find(false)).packed).not.toBeNull();
  });

  test('that can lie nowhere are an error of the file system, and nothing is left', async () => {
    process.env.OPEN_AUTOGLM_CACHE = join(modelFile('a-file'), 'cache');
    await expect(keep(await cacheOf(modelFile(`${'n'.repeat(245)}.gguf`)))).rejects.toMatchObject({
      code: 'ENOTDIR',
    });
    expect(readdirSync(models)).toHaveLength(2);
  });

  test('whose writing fails leave nothing behind', async () => {
    const cache = await cacheOf(modelFile());
    const full = Object.assign(new Error('no space'), { code: 'ENOSPC' });
    await expect(keep(cache, { write: () => Promise.reject(full) })).rejects.toBe(full);
    expect(readdirSync(models)).toEqual(['tiny.gguf']);
  });

  test('that are damaged behind their header are replaced when the caller says so', async () => {
    const cache = await cacheOf(modelFile());
    const path = (await keep(cache)) ?? '';
    edit(path, 65_536, 0);
    expect(await keep(cache)).toBeNull();
    expect(await keep(cache, { isReplacing: true })).toBe(path);
    expect(readFileSync(path).subarray(65_536)).toEqual(WEIGHTS);
  });

  test('are written once by those who come at the same time', async () => {
    const model = modelFile();
    const all = await Promise.all([1, 2, 3].map(async () => keep(await cacheOf(model))));
    expect(all.filter((path) => path !== null)).toHaveLength(1);
    expect(readdirSync(models).sort()).toEqual(['tiny.gguf', 'tiny.gguf.fast.packed']);
  });

  test.skipIf(!existsSync(READ_ONLY_FILE))(
    'of a model on a read-only disk lie in the cache folder',
    async () => {
      const path = await keep(await cacheOf(READ_ONLY_FILE));
      expect(path?.startsWith(join(caches.folder, 'own', 'packed'))).toBe(true);
      expect((await (await cacheOf(READ_ONLY_FILE)).find(false)).packed?.path).toBe(path);
    },
  );

  test('are noted anew when the cache folder was cleared', async () => {
    const cache = await cacheOf(modelFile());
    await keep(cache);
    rmSync(join(caches.folder, 'own'), { recursive: true });
    await cache.find(false);
    expect((await describeEntries()).map(({ path }) => path)).toEqual([cache.places.beside]);
  });

  test('that a killed process left half written are cleared away', async () => {
    const model = modelFile();
    writeFileSync(`${model}.fast.packed.dead.part`, 'half');
    await keep(await cacheOf(model));
    expect(readdirSync(models).sort()).toEqual(['tiny.gguf', 'tiny.gguf.fast.packed']);
  });
});

describe('the room they take', () => {
  const SIZE = 65_536 + WEIGHTS.length;
  const names = (): Promise<string[]> =>
    describeEntries().then((all) => all.map(({ description }) => description?.model.slice(-6) ?? ''));

  test('is bounded: those unused for longest go first, wherever they lie', async () => {
    const paths = ['a.gguf', 'b.gguf', 'c.gguf'].map((name) => modelFile(name));
    const [a, b, c] = await Promise.all(paths.map((path) => cacheOf(path)));
    if (a === undefined || b === undefined || c === undefined) throw new Error('three caches');
    for (const cache of [a, b]) await keep(cache);
    // Two hours apart, so that what follows does not depend on the clock's grain.
    for (const [i, cache] of [a, b].entries()) ageEntry(cache, 4 - 2 * i);
    await a.find(false);
    await keep(c, { maxBytes: 2 * SIZE });
    expect((await names()).sort()).toEqual(['a.gguf', 'c.gguf']);
    expect(existsSync(`${paths[1]}.fast.packed`)).toBe(false);
  });

  test('is not taken by weights larger than the bound', async () => {
    await expect(keep(await cacheOf(modelFile()), { maxBytes: SIZE - 1 })).rejects.toMatchObject({
      code: 'invalid_parameter',
    });
    expect(readdirSync(models)).toEqual(['tiny.gguf']);
  });

  test('is given back with the model', async () => {
    const [one, two] = [modelFile('one.gguf'), modelFile('two.gguf')];
    for (const path of [one, two]) await keep(await cacheOf(path));
    const removed = await removePacked(one);
    expect(removed.map(({ path }) => path)).toEqual([`${one}.fast.packed`]);
    expect(await names()).toEqual([two.slice(-6)]);
    await removePacked(models);
    expect(await names()).toEqual([]);
    expect(readdirSync(models).sort()).toEqual(['one.gguf', 'two.gguf']);
  });

  test('is not asked of files that are gone: their note is cleared away', async () => {
    const model = modelFile();
    await keep(await cacheOf(model));
    rmSync(`${model}.fast.packed`);
    expect(await describeEntries()).toEqual([]);
    expect(readdirSync(join(caches.folder, 'own', 'packed'))).toEqual([]);
  });

  function ageEntry(cache: PackedCache, hours: number): void {
    const { central } = cache.places;
    const at = Date.now() / 1000 - 3600 * hours;
    lutimesSync(central, at, at);
  }
});
