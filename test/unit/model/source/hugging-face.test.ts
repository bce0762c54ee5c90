import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listCached, removeCached } from '../../../../lib/model/source/cached-models';
import { resolveSource } from '../../../../lib/model/source/resolve-source';
import { COMMIT, cutAfter, FakeHub, refuse, sampleBytes, sha256 } from './fake-hub';
import { CLOSED_ENDPOINT, isolateCaches } from './isolated-caches';

const caches = isolateCaches();
const GGUF = sampleBytes(200_000);
const SHARDS = [sampleBytes(9_000, 2), sampleBytes(8_000, 3)];
const CHECKPOINT = {
  'README.md': 'read me',
  'config.json': '{}',
  'generation_config.json': '{ }',
  'tokenizer.json': '{"model":{}}',
  'tokenizer_config.json': '{"a":1}',
  'chat_template.jinja': '{{ messages }}',
  'model-00001-of-00002.safetensors': SHARDS[0] ?? '',
  'model-00002-of-00002.safetensors': SHARDS[1] ?? '',
  'model.safetensors.index.json': '{"weight_map":{}}',
  'pytorch_model.bin': sampleBytes(7_000, 4),
  'onnx/model.onnx': sampleBytes(7_000, 5),
  'original/consolidated.safetensors': sampleBytes(7_000, 6),
};
let hub: FakeHub;

beforeEach(async () => {
  hub = await FakeHub.start();
  process.env.HF_ENDPOINT = hub.url;
  hub.addRepository('org/gguf', { 'model.gguf': GGUF, 'sub/other.gguf': sampleBytes(5_000, 7) });
  hub.addRepository('org/checkpoint', CHECKPOINT);
});
afterEach(() => hub.close());

const repositoryFolder = (name: string): string =>
  join(caches.folder, 'hf', 'hub', `models--${name.replace('/', '--')}`);

test('an adapter comes with its config, and is found again without the network', async () => {
  const weights = sampleBytes(3_000, 8);
  hub.addRepository('org/adapter', {
    'README.md': 'read me',
    'adapter_config.json': '{}',
    'adapter_model.safetensors': weights,
    'training_args.bin': sampleBytes(50, 9),
  });
  const found = await resolveSource('hf:org/adapter');
  expect(readdirSync(found.path).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  process.env.HF_ENDPOINT = CLOSED_ENDPOINT;
  expect(await resolveSource('hf:org/adapter')).toMatchObject({ path: found.path, isCached: true });
});

describe('one file of a repository', () => {
  test('lands in the layout that Hugging Face tools share', async () => {
    const found = await resolveSource('hf:org/gguf:model.gguf');
    const folder = repositoryFolder('org/gguf');
    expect(found).toMatchObject({ revision: COMMIT, isCached: false, source: 'hf:org/gguf:model.gguf' });
    expect(found.path).toBe(join(folder, 'snapshots', COMMIT, 'model.gguf'));
    expect(readFileSync(found.path).equals(GGUF)).toBe(true);
    expect(readlinkSync(found.path)).toBe(join('..', '..', 'blobs', sha256(GGUF)));
    expect(readFileSync(join(folder, 'refs', 'main'), 'utf8')).toBe(COMMIT);
    expect(readdirSync(join(folder, 'blobs'))).toEqual([sha256(GGUF)]);
  });

  test('in a folder of the repository keeps its path', async () => {
    const found = await resolveSource('hf:org/gguf:sub/other.gguf');
    expect(readlinkSync(found.path)).toBe(join('..', '..', '..', 'blobs', sha256(sampleBytes(5_000, 7))));
  });

  test('is asked for once and then found without the network', async () => {
    await resolveSource('hf:org/gguf:model.gguf');
    const numAsked = hub.seen.length;
    process.env.HF_ENDPOINT = CLOSED_ENDPOINT;
    const found = await resolveSource('hf:org/gguf:model.gguf');
    expect(found.isCached).toBe(true);
    expect(found.resolution).toEqual([{ source: 'hf:org/gguf:model.gguf', verdict: 'in the cache' }]);
    expect(hub.seen).toHaveLength(numAsked);
  });

  test('that another revision shares is linked, not fetched again', async () => {
    await resolveSource('hf:org/gguf:model.gguf');
    const numDownloads = hub.store.downloads().length;
    await resolveSource('hf:org/gguf:model.gguf', { revision: 'v2' });
    expect(hub.store.downloads()).toHaveLength(numDownloads);
    expect(readFileSync(join(repositoryFolder('org/gguf'), 'refs', 'v2'), 'utf8')).toBe(COMMIT);
  });

  test('that is one part of several brings the others, and is cached only with all of them', async () => {
    const part = (i: number): string => `q4/big-0000${i}-of-00003.gguf`;
    hub.addRepository('org/split', {
      [part(1)]: sampleBytes(3_000, 11),
      [part(2)]: sampleBytes(3_000, 12),
      [part(3)]: sampleBytes(3_000, 13),
      'q8/big-00001-of-00003.gguf': sampleBytes(3_000, 14),
    });
    const { path } = await resolveSource(`hf:org/split:${part(2)}`);
    expect(path.endsWith(part(2))).toBe(true);
    const folder = join(repositoryFolder('org/split'), 'snapshots', COMMIT);
    expect(readdirSync(join(folder, 'q4'))).toEqual([1, 2, 3].map((i) => part(i).slice(3)));
    expect(readdirSync(folder)).toEqual(['q4']);
    expect((await resolveSource(`hf:org/split:${part(2)}`)).isCached).toBe(true);
    const listed = { source: `hf:org/split:${part(1)}`, path: join(folder, part(1)), bytes: 9_000 };
    expect(await listCached()).toEqual([{ ...listed, names: [] }]);
    rmSync(join(folder, part(3)));
    expect((await resolveSource(`hf:org/split:${part(2)}`)).isCached).toBe(false);
    expect(statSync(join(folder, part(3))).size).toBe(3_000);
    await removeCached(`hf:org/split:${part(1)}`);
    expect(await listCached()).toEqual([]);
    expect(readdirSync(join(caches.folder, 'hf', 'hub'))).not.toContain('models--org--split');
  });

  test('is fetched again when its blob is gone', async () => {
    const { path } = await resolveSource('hf:org/gguf:model.gguf');
    rmSync(join(repositoryFolder('org/gguf'), 'blobs'), { recursive: true });
    await resolveSource('hf:org/gguf:model.gguf');
    expect(statSync(path).size).toBe(GGUF.length);
  });

  test('whose bytes do not have the hash in the ETag is refused and removed', async () => {
    hub.store.put(`/${sha256(GGUF)}`, sampleBytes(GGUF.length, 8));
    await expect(resolveSource('hf:org/gguf:model.gguf')).rejects.toMatchObject({ code: 'download_failed' });
    expect(readdirSync(join(repositoryFolder('org/gguf'), 'blobs'))).toEqual([]);
  });

  test('goes on after a cut, without a condition on the ETag of the store', async () => {
    hub.store.faults.push(cutAfter(50_000));
    const found = await resolveSource('hf:org/gguf:model.gguf');
    expect(readFileSync(found.path).equals(GGUF)).toBe(true);
    expect(hub.store.downloads().at(-1)?.headers).toMatchObject({
      range: expect.stringMatching(/^bytes=\d+-$/),
    });
    expect(hub.store.downloads().at(-1)?.headers['if-range']).toBeUndefined();
  });
});

describe('a checkpoint', () => {
  test('brings the files that are read and no others, weights last', async () => {
    const found = await resolveSource('hf:org/checkpoint');
    expect(found.path).toBe(join(repositoryFolder('org/checkpoint'), 'snapshots', COMMIT));
    const unwanted = [
      'README.md',
      'pytorch_model.bin',
      'onnx/model.onnx',
      'original/consolidated.safetensors',
    ];
    const wanted = Object.keys(CHECKPOINT).filter((name) => !unwanted.includes(name));
    expect(readdirSync(found.path).sort()).toEqual(wanted.sort());
    const asked = hub.seen
      .filter(({ method }) => method === 'HEAD')
      .map(({ path }) => path.split('/').at(-1));
    expect(asked.slice(-3)).toEqual([
      'model.safetensors.index.json',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
    ]);
  });

  test('that is not complete in the cache is completed', async () => {
    const { path } = await resolveSource('hf:org/checkpoint');
    rmSync(join(path, 'model-00002-of-00002.safetensors'));
    const again = await resolveSource('hf:org/checkpoint');
    expect(again.isCached).toBe(false);
    expect(statSync(join(path, 'model-00002-of-00002.safetensors')).size).toBe(8_000);
  });

  test('with pickled weights only is refused with the reason', async () => {
    hub.addRepository('org/pickled', { 'config.json': '{}', 'pytorch_model.bin': 'x' });
    await expect(resolveSource('hf:org/pickled')).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringContaining('pytorch_model.bin'),
      hint: expect.stringContaining('run code'),
    });
  });

  test('that is a folder of GGUF files asks for one by name', async () => {
    await expect(resolveSource('hf:org/gguf')).rejects.toMatchObject({
      code: 'invalid_parameter',
      hint: expect.stringContaining('hf:org/gguf:model.gguf'),
    });
  });

  test('whose listing names a file outside its folder does not touch that file', async () => {
    hub.addRepository('org/hostile', {
      ...CHECKPOINT,
      '../../../evil.json': 'x',
      '/etc/tokenizer.json': 'x',
    });
    const { path } = await resolveSource('hf:org/hostile');
    expect(readdirSync(path)).not.toContain('evil.json');
    expect(hub.seen.some((request) => request.path.includes('evil'))).toBe(false);
    // Where a backslash separates folders, this one leaves its own too.
    hub.addRepository('org/windows', { 'config.json': '{}', '..\\evil.safetensors': 'x' });
    await expect(resolveSource('hf:org/windows')).rejects.toMatchObject({ code: 'unsupported_model' });
  });
});

describe('what the hub answers', () => {
  test.each([
    [401, 'unauthorized', /HF_TOKEN/],
    [403, 'unauthorized', /licence/],
    [404, 'model_not_found', /spelling/],
    [418, 'download_failed', undefined],
  ])('%i is %s', async (status, code, hint) => {
    hub.faults.push(refuse(status, {}, 10));
    const error = await resolveSource('hf:org/gguf:model.gguf').catch((fault: unknown) => fault);
    expect(error).toMatchObject({ code });
    if (hint !== undefined) expect((error as { hint: string }).hint).toMatch(hint);
    expect(hub.seen).toHaveLength(1);
  });

  test('a page of a proxy in its place is recognised', async () => {
    hub.faults.push((_, response) => {
      response.end('<html>log in</html>');
      return true;
    });
    await expect(resolveSource('hf:org/checkpoint')).rejects.toThrow(
      /does not answer like a Hugging Face hub/,
    );
    await expect(resolveSource('hf:org/gguf:model.gguf')).rejects.toThrow(
      /does not answer like a Hugging Face hub/,
    );
  });

  test('an ETag that would leave the cache folder is refused', async () => {
    hub.faults.push((_, response) => {
      response.writeHead(200, { 'x-repo-commit': COMMIT, etag: '"../../evil"' }).end();
      return true;
    });
    await expect(resolveSource('hf:org/gguf:model.gguf')).rejects.toMatchObject({ code: 'download_failed' });
  });

  test('a renamed repository is followed', async () => {
    let isFirst = true;
    hub.faults.push((request, response) => {
      if (!isFirst) return false;
      isFirst = false;
      response.writeHead(307, { location: (request.url ?? '').replace('/old/', '/org/') }).end();
      return true;
    });
    hub.addRepository('old/gguf', { 'model.gguf': GGUF });
    expect((await resolveSource('hf:old/gguf:model.gguf')).path).toContain('models--old--gguf');
  });
});

describe('the token', () => {
  test('goes to the hub and not to the store that it redirects to', async () => {
    process.env.HF_TOKEN = 'hf_secret';
    await resolveSource('hf:org/gguf:model.gguf');
    expect(new Set(hub.seen.map(({ headers }) => headers.authorization))).toEqual(
      new Set(['Bearer hf_secret']),
    );
    expect(hub.store.seen.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  test('is read from the login file of Hugging Face tools', async () => {
    mkdirSync(join(caches.folder, 'hf'), { recursive: true });
    writeFileSync(join(caches.folder, 'hf', 'token'), 'hf_from_file\n');
    await resolveSource('hf:org/gguf:model.gguf');
    expect(hub.seen[0]?.headers.authorization).toBe('Bearer hf_from_file');
  });

  test('never stands in an error', async () => {
    process.env.HF_TOKEN = 'hf secret';
    const error = await resolveSource('hf:org/gguf:model.gguf').catch((fault: unknown) => fault);
    expect(error).toMatchObject({ code: 'invalid_parameter' });
    expect(JSON.stringify(error) + String(error)).not.toContain('secret');
  });
});

describe('offline', () => {
  test.each([['option'], ['environment']])(
    'by %s: nothing is asked, and the error says what is cached',
    async (how) => {
      await resolveSource('hf:org/gguf:model.gguf');
      const numAsked = hub.seen.length;
      if (how === 'environment') process.env.HF_HUB_OFFLINE = '1';
      const options = how === 'option' ? { offline: true } : {};
      await expect(resolveSource('hf:org/checkpoint', options)).rejects.toMatchObject({
        code: 'offline',
        hint: 'Cached: hf:org/gguf:model.gguf.',
        details: { looked: ['hf:org/checkpoint'] },
      });
      expect((await resolveSource('hf:org/gguf:model.gguf', options)).isCached).toBe(true);
      expect(hub.seen).toHaveLength(numAsked);
    },
  );
});

describe('listing and removing', () => {
  test('lists files and checkpoints with their sizes', async () => {
    await resolveSource('hf:org/gguf:model.gguf');
    await resolveSource('hf:org/checkpoint@v1');
    const models = await listCached();
    expect(models.map(({ source }) => source)).toEqual(['hf:org/checkpoint@v1', 'hf:org/gguf:model.gguf']);
    expect(models[1]?.bytes).toBe(GGUF.length);
    for (const model of models) expect((await resolveSource(model.source)).path).toBe(model.path);
  });

  test('removing one file keeps the others of its repository', async () => {
    await resolveSource('hf:org/gguf:model.gguf');
    const other = await resolveSource('hf:org/gguf:sub/other.gguf');
    const removed = await removeCached('hf:org/gguf:model.gguf');
    expect(removed.map(({ bytes }) => bytes)).toEqual([GGUF.length]);
    expect(readdirSync(join(repositoryFolder('org/gguf'), 'blobs'))).toEqual([sha256(sampleBytes(5_000, 7))]);
    expect(statSync(other.path).size).toBe(5_000);
  });

  test('a blob that another snapshot links to survives the removal of one', async () => {
    const first = await resolveSource('hf:org/gguf:model.gguf');
    const snapshots = join(repositoryFolder('org/gguf'), 'snapshots');
    const second = join(snapshots, 'b'.repeat(40));
    mkdirSync(second);
    rmSync(join(second, 'model.gguf'), { force: true });
    writeFileSync(join(repositoryFolder('org/gguf'), 'refs', 'v2'), 'b'.repeat(40));
    const { symlinkSync } = await import('node:fs');
    symlinkSync(readlinkSync(first.path), join(second, 'model.gguf'));
    await removeCached('hf:org/gguf:model.gguf');
    expect(statSync(join(second, 'model.gguf')).size).toBe(GGUF.length);
    await removeCached('hf:org/gguf:model.gguf@v2');
    expect(await listCached()).toEqual([]);
  });

  test('removing a repository removes its folder', async () => {
    await resolveSource('hf:org/checkpoint');
    await removeCached('hf:org/checkpoint');
    expect(readdirSync(join(caches.folder, 'hf', 'hub')).filter((name) => name !== '.locks')).toEqual([]);
  });

  test('removing what is not there is an error', async () => {
    await expect(removeCached('hf:org/none')).rejects.toMatchObject({ code: 'model_not_found' });
    await expect(removeCached('./model.gguf')).rejects.toMatchObject({ code: 'invalid_parameter' });
  });
});
