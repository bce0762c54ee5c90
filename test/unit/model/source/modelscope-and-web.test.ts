import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listCached, removeCached } from '../../../../lib/model/source/cached-models';
import { resolveSource } from '../../../../lib/model/source/resolve-source';
import { cutAfter, FakeFiles, FakeHub, refuse, sampleBytes, sha256 } from './fake-hub';
import { isolateCaches } from './isolated-caches';

const caches = isolateCaches();
const GGUF = sampleBytes(200_000);

describe('modelscope', () => {
  const CHECKPOINT = {
    'config.json': '{}',
    'tokenizer.json': '{ }',
    'model.safetensors': GGUF,
    'pytorch_model.bin': 'x',
    'docs/config.json': 'x',
  };
  let hub: FakeHub;
  beforeEach(async () => {
    hub = await FakeHub.start();
    process.env.MODELSCOPE_ENDPOINT = hub.url;
    hub.addRepository('org/gguf', { 'sub/model.gguf': GGUF });
    hub.addRepository('org/checkpoint', CHECKPOINT);
  });
  afterEach(() => hub.close());

  test('a file is fetched into our own cache and found there again', async () => {
    const { path, isCached } = await resolveSource('modelscope:org/gguf:sub/model.gguf');
    expect(isCached).toBe(false);
    expect(path.startsWith(join(caches.folder, 'own', 'modelscope'))).toBe(true);
    expect(readFileSync(path).equals(GGUF)).toBe(true);
    const numAsked = hub.seen.length;
    expect(await resolveSource('modelscope:org/gguf:sub/model.gguf')).toMatchObject({ path, isCached: true });
    expect(hub.seen).toHaveLength(numAsked);
  });

  test('a checkpoint is the directory of the files that are read', async () => {
    const { path } = await resolveSource('modelscope:org/checkpoint');
    const files = ['config.json', 'model.safetensors', 'source.json', 'tokenizer.json'];
    expect(readdirSync(path).sort()).toEqual(files);
  });

  test('a checkpoint that was stopped goes on without fetching the finished files again', async () => {
    hub.faults.push((request, response) => {
      if (!(request.url ?? '').includes('model.safetensors')) return false;
      return refuse(403)(request, response);
    });
    await expect(resolveSource('modelscope:org/checkpoint')).rejects.toMatchObject({ code: 'unauthorized' });
    hub.faults.length = 0;
    hub.seen.length = 0;
    const { path } = await resolveSource('modelscope:org/checkpoint');
    const asked = hub.downloads().map((request) => /FilePath=([^&]+)/.exec(request.path)?.[1]);
    expect(asked).toEqual(['model.safetensors']);
    expect(readFileSync(join(path, 'config.json'), 'utf8')).toBe('{}');
  });

  test('a finished file that was damaged meanwhile is fetched again', async () => {
    const { path } = await resolveSource('modelscope:org/checkpoint');
    rmSync(join(path, 'source.json'));
    writeFileSync(join(path, 'config.json'), '[]');
    await resolveSource('modelscope:org/checkpoint');
    expect(readFileSync(join(path, 'config.json'), 'utf8')).toBe('{}');
  });

  test('bytes without the hash of the listing are refused', async () => {
    hub.faults.push((request, response) => {
      if (!(request.url ?? '').includes('FilePath')) return false;
      response.end(sampleBytes(GGUF.length, 9));
      return true;
    });
    await expect(resolveSource('modelscope:org/gguf:sub/model.gguf')).rejects.toMatchObject({
      code: 'download_failed',
      details: { expected: `sha256 ${sha256(GGUF)}` },
    });
  });

  test('an absent file, an absent repository and pickled weights are told apart', async () => {
    hub.addRepository('org/pickled', { 'pytorch_model.bin': 'x' });
    await expect(resolveSource('modelscope:org/gguf:none.gguf')).rejects.toThrow(/has no file none.gguf/);
    await expect(resolveSource('modelscope:org/none')).rejects.toMatchObject({ code: 'model_not_found' });
    await expect(resolveSource('modelscope:org/pickled')).rejects.toMatchObject({
      code: 'unsupported_model',
    });
  });

  test('a page of a proxy in its place is recognised', async () => {
    hub.faults.push((_, response) => {
      response.end('<html>');
      return true;
    });
    await expect(resolveSource('modelscope:org/gguf:x.gguf')).rejects.toThrow(
      /does not answer like ModelScope/,
    );
  });
});

describe('a web address', () => {
  let server: FakeFiles;
  beforeEach(async () => {
    server = await new FakeFiles().listen();
    server.put('/models/my%20model.gguf', GGUF);
    server.put('/model.gguf', GGUF);
  });
  afterEach(() => server.close());

  test('is fetched, kept under its own name, and found again', async () => {
    const { path } = await resolveSource(`${server.url}/models/my%20model.gguf`);
    expect(path.endsWith('my model.gguf')).toBe(true);
    expect(readFileSync(path).equals(GGUF)).toBe(true);
    expect((await resolveSource(`${server.url}/models/my%20model.gguf`)).isCached).toBe(true);
  });

  test('keeps its query out of messages, verdicts and the cache, but not out of the request', async () => {
    const { resolution, path } = await resolveSource(`${server.url}/model.gguf?token=secret`);
    expect(server.seen[0]?.path).toBe('/model.gguf?token=secret');
    const record = readFileSync(join(dirname(path), 'source.json'), 'utf8');
    expect(JSON.stringify(resolution) + record + path).not.toContain('secret');
  });

  test('that differs in the query only is another model', async () => {
    const first = await resolveSource(`${server.url}/model.gguf?v=1`);
    const second = await resolveSource(`${server.url}/model.gguf?v=2`);
    expect(second.path).not.toBe(first.path);
  });

  test('of something else than a GGUF file is refused before anything is asked', async () => {
    await expect(resolveSource(`${server.url}/model.zip`)).rejects.toMatchObject({
      code: 'invalid_parameter',
    });
    await expect(resolveSource(`${server.url}/..%2f..%2fx.gguf`)).rejects.toMatchObject({
      code: 'invalid_parameter',
    });
    expect(server.seen).toEqual([]);
  });

  test('goes on after an abort with what it has', async () => {
    const controller = new AbortController();
    server.faults.push(cutAfter(100_000));
    setTimeout(() => controller.abort(), 50);
    await expect(
      resolveSource(`${server.url}/model.gguf`, { signal: controller.signal }),
    ).rejects.toMatchObject({ code: 'aborted' });
    server.faults.length = 0;
    await resolveSource(`${server.url}/model.gguf`);
    expect(server.seen.at(-1)?.headers.range).toMatch(/^bytes=\d+-$/);
  });

  test('is listed and removed by its source', async () => {
    const { path } = await resolveSource(`${server.url}/model.gguf`);
    expect(await listCached()).toMatchObject([
      { source: `${server.url}/model.gguf`, bytes: GGUF.length, path },
    ]);
    await removeCached(`${server.url}/model.gguf`);
    expect(existsSync(path)).toBe(false);
    expect(await listCached()).toEqual([]);
  });

  test('that is not complete is removed too, though it is not listed', async () => {
    server.faults.push(refuse(403));
    await expect(resolveSource(`${server.url}/model.gguf`)).rejects.toMatchObject({ code: 'unauthorized' });
    expect(await removeCached(`${server.url}/model.gguf`)).toEqual([]);
    await expect(removeCached(`${server.url}/model.gguf`)).rejects.toMatchObject({ code: 'model_not_found' });
  });

  test('whose file was cut in the cache is fetched again', async () => {
    const { path } = await resolveSource(`${server.url}/model.gguf`);
    writeFileSync(path, GGUF.subarray(0, 1000));
    expect((await resolveSource(`${server.url}/model.gguf`)).isCached).toBe(false);
    expect(readFileSync(path).equals(GGUF)).toBe(true);
  });
});
