import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DownloadProgress, FetchContext } from '../../../../lib/model/source/source-types';
import { downloadFile, type RemoteFile } from '../../../../lib/model/source/transfer/download';
import { cutAfter, FakeFiles, refuse, sampleBytes, sha256 } from './fake-hub';
import { isolateCaches } from './isolated-caches';

const caches = isolateCaches();
const BYTES = sampleBytes(300_000);
let server: FakeFiles;
let target: string;
let partial: string;

beforeEach(async () => {
  server = await new FakeFiles().listen();
  server.put('/model.gguf', BYTES);
  target = join(caches.folder, 'model.gguf');
  partial = `${target}.incomplete`;
});
afterEach(() => server.close());

function remote(settings: Partial<RemoteFile> = {}): RemoteFile {
  const facts = { sha256: sha256(BYTES), size: BYTES.length };
  const url = `${server.url}/model.gguf`;
  return { url, authorization: null, label: 'model.gguf', identity: null, facts, ...settings };
}

function fetchFile(settings: Partial<RemoteFile> = {}, context: Partial<FetchContext> = {}) {
  const full: FetchContext = { signal: undefined, onProgress: () => {}, log: () => {}, ...context };
  const timeouts = { connect: 1000, head: 300, idle: 300 };
  return downloadFile(remote(settings), target, partial, full, timeouts);
}

/** Leaves the first `length` bytes of a version behind, as a killed process does. */
function leavePartial(bytes: Buffer, length: number, version: Record<string, string | null>): void {
  writeFileSync(partial, bytes.subarray(0, length));
  writeFileSync(`${partial}.json`, JSON.stringify(version));
}

const etagOf = (bytes: Buffer): string => `"${sha256(bytes).slice(0, 16)}"`;
const rangesAsked = (): (string | undefined)[] => server.downloads().map(({ headers }) => headers.range);
const nothingButTarget = (): void => expect(readdirSync(caches.folder)).toEqual(['model.gguf']);
const nothing = (): void => expect(readdirSync(caches.folder)).toEqual([]);

describe('a download that succeeds', () => {
  test('writes the bytes, gives size and hash, and leaves nothing else behind', async () => {
    expect(await fetchFile()).toEqual({ size: BYTES.length, sha256: sha256(BYTES) });
    expect(readFileSync(target).equals(BYTES)).toBe(true);
    nothingButTarget();
  });

  test('reports growing progress that ends at the total', async () => {
    const events: DownloadProgress[] = [];
    await fetchFile({}, { onProgress: (event) => events.push(event) });
    expect(events[0]).toMatchObject({ file: 'model.gguf', loaded: 0, total: BYTES.length });
    expect(events.at(-1)).toMatchObject({ loaded: BYTES.length, total: BYTES.length });
    for (const [i, event] of events.entries())
      expect(event.loaded).toBeGreaterThanOrEqual(events[i - 1]?.loaded ?? 0);
  });

  test('works without any size or hash, also for an empty file', async () => {
    server.put('/model.gguf', Buffer.alloc(0));
    await fetchFile({ facts: { sha256: null, size: null } });
    expect(statSync(target).size).toBe(0);
  });
});

describe('going on after a kill', () => {
  test('asks for the rest only, on condition that the version is the same', async () => {
    leavePartial(BYTES, 100_000, { etag: etagOf(BYTES) });
    const events: DownloadProgress[] = [];
    await fetchFile({}, { onProgress: (event) => events.push(event) });
    expect(readFileSync(target).equals(BYTES)).toBe(true);
    expect(server.downloads().map(({ headers }) => [headers.range, headers['if-range']])).toEqual([
      ['bytes=100000-', etagOf(BYTES)],
    ]);
    expect(events[0]?.loaded).toBe(100_000);
    nothingButTarget();
  });

  test('starts over when the server has another version', async () => {
    leavePartial(sampleBytes(300_000, 9), 100_000, { etag: '"old"' });
    await fetchFile();
    expect(readFileSync(target).equals(BYTES)).toBe(true);
  });

  test('starts over when a server ignores the condition and sends the rest of another version', async () => {
    const old = sampleBytes(300_000, 9);
    leavePartial(old, 100_000, { etag: '"old"' });
    server.faults.push((request) => {
      delete request.headers['if-range'];
      return false;
    });
    await fetchFile({ facts: { sha256: null, size: null } });
    expect(readFileSync(target).equals(BYTES)).toBe(true);
    expect(rangesAsked()).toEqual(['bytes=100000-', undefined]);
  });

  test('needs no condition when the content has an identity, and ignores another ETag then', async () => {
    leavePartial(BYTES, 100_000, { identity: 'abc', etag: '"of another host"' });
    await fetchFile({ identity: 'abc' });
    expect(rangesAsked()).toEqual(['bytes=100000-']);
    expect(server.downloads()[0]?.headers['if-range']).toBeUndefined();
  });

  test('starts over when the identity differs', async () => {
    leavePartial(BYTES, 100_000, { identity: 'old' });
    await fetchFile({ identity: 'abc' });
    expect(rangesAsked()).toEqual([undefined]);
  });

  test('starts over when the version of the bytes is unknown', async () => {
    writeFileSync(partial, BYTES.subarray(0, 100_000));
    await fetchFile();
    expect(rangesAsked()).toEqual([undefined]);
    expect(readFileSync(target).equals(BYTES)).toBe(true);
  });

  test('starts over without an error when the bytes that were kept are damaged', async () => {
    leavePartial(sampleBytes(300_000, 9), 100_000, { etag: etagOf(BYTES) });
    await fetchFile();
    expect(rangesAsked()).toEqual(['bytes=100000-', undefined]);
    expect(readFileSync(target).equals(BYTES)).toBe(true);
    nothingButTarget();
  });

  test('asks nothing when all bytes are there already', async () => {
    leavePartial(BYTES, BYTES.length, { identity: 'abc' });
    await fetchFile({ identity: 'abc' });
    expect(server.seen).toEqual([]);
    expect(readFileSync(target).equals(BYTES)).toBe(true);
  });

  test('starts over when more bytes are there than the file has', async () => {
    leavePartial(sampleBytes(400_000), 400_000, { etag: etagOf(BYTES) });
    await fetchFile({ facts: { sha256: sha256(BYTES), size: null } });
    expect(readFileSync(target).equals(BYTES)).toBe(true);
  });

  test('starts over when the server answers a range with the whole file', async () => {
    leavePartial(BYTES, 100_000, { etag: etagOf(BYTES) });
    server.faults.push((request) => {
      delete request.headers.range;
      return false;
    });
    await fetchFile();
    expect(readFileSync(target).equals(BYTES)).toBe(true);
  });
});

describe('a connection that fails', () => {
  test('a body that is cut is continued', async () => {
    server.faults.push(cutAfter(120_000, 2));
    await fetchFile();
    expect(readFileSync(target).equals(BYTES)).toBe(true);
    expect(rangesAsked().length).toBeGreaterThan(1);
    expect(rangesAsked().at(-1)).toMatch(/^bytes=\d+-$/);
  });

  test('a body that stalls is continued on a new connection', async () => {
    let isFirst = true;
    server.faults.push((_, response) => {
      if (!isFirst) return false;
      isFirst = false;
      response.writeHead(200, { etag: etagOf(BYTES), 'content-length': BYTES.length });
      response.write(BYTES.subarray(0, 50_000));
      return true;
    });
    await fetchFile();
    expect(readFileSync(target).equals(BYTES)).toBe(true);
    expect(rangesAsked()).toEqual([undefined, 'bytes=50000-']);
  });

  test('a server that never answers costs one wait', async () => {
    server.faults.push(() => true);
    await expect(fetchFile()).rejects.toMatchObject({ code: 'download_failed', retryable: true });
    expect(server.seen).toHaveLength(1);
  });

  test('a server in trouble is asked again', async () => {
    server.faults.push(refuse(503), refuse(500));
    await fetchFile();
    expect(readFileSync(target).equals(BYTES)).toBe(true);
  });

  test('a server that stays in trouble is an error with the status', async () => {
    server.faults.push(refuse(502, {}, 100));
    await expect(fetchFile()).rejects.toMatchObject({ code: 'download_failed', details: { status: 502 } });
    expect(server.seen).toHaveLength(3);
    expect(existsSync(target)).toBe(false);
  });
});

describe('a server that says "later"', () => {
  test.each([
    [{ 'retry-after': '1' }],
    [{ ratelimit: '"api";r=0;t=1' }],
    [{ ratelimit: 'limit=10, remaining=0, reset=1' }],
    [{ 'ratelimit-reset': '1' }],
  ])('is asked again after the time it names in %j', async (headers: Record<string, string>) => {
    server.faults.push(refuse(429, headers));
    const startedAt = performance.now();
    await fetchFile();
    expect(performance.now() - startedAt).toBeGreaterThan(950);
    expect(server.seen).toHaveLength(2);
  });

  test('is not asked again when it does not say when', async () => {
    server.faults.push(refuse(429));
    await expect(fetchFile()).rejects.toMatchObject({ code: 'rate_limited', retryable: true });
    expect(server.seen).toHaveLength(1);
  });

  test('is not waited for when it asks for more than a minute', async () => {
    server.faults.push(refuse(429, { 'retry-after': '3600' }));
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'rate_limited',
      details: { retryAfterMs: 3_600_000 },
    });
    expect(server.seen).toHaveLength(1);
  });
});

describe('bytes that are wrong', () => {
  test('another hash removes what was downloaded', async () => {
    await expect(fetchFile({ facts: { sha256: 'f'.repeat(64), size: null } })).rejects.toMatchObject({
      code: 'download_failed',
      retryable: false,
      details: { expected: `sha256 ${'f'.repeat(64)}` },
    });
    nothing();
  });

  test('another size is refused before the body', async () => {
    await expect(fetchFile({ facts: { sha256: null, size: 1000 } })).rejects.toMatchObject({
      details: { expected: '1000 bytes', found: '300000 bytes' },
    });
    nothing();
  });

  test('a body longer than the size is refused where it exceeds it', async () => {
    server.faults.push((_, response) => {
      response.writeHead(200, { etag: '"x"' });
      response.end(Buffer.alloc(2000));
      return true;
    });
    await expect(fetchFile({ facts: { sha256: null, size: 1000 } })).rejects.toMatchObject({
      details: { found: 'more than 1000 bytes' },
    });
    nothing();
  });

  test('a compressed body is refused', async () => {
    server.faults.push((_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(BYTES);
      return true;
    });
    await expect(fetchFile()).rejects.toThrow(/encoding gzip/);
  });
});

describe('a download that is stopped', () => {
  test('by abort: rejects as AbortError, keeps the bytes, and the next one goes on', async () => {
    const controller = new AbortController();
    let isFirst = true;
    server.faults.push((_, response) => {
      if (!isFirst) return false;
      isFirst = false;
      response.writeHead(200, { etag: etagOf(BYTES), 'content-length': BYTES.length });
      response.write(BYTES.subarray(0, 60_000), () => setTimeout(() => controller.abort(), 50));
      return true;
    });
    await expect(fetchFile({}, { signal: controller.signal })).rejects.toMatchObject({
      code: 'aborted',
      name: 'AbortError',
    });
    expect(existsSync(target)).toBe(false);
    await fetchFile();
    expect(rangesAsked()).toEqual([undefined, 'bytes=60000-']);
    expect(readFileSync(target).equals(BYTES)).toBe(true);
  });

  // Writing to /dev/full fails as a full disk does.
  test.runIf(existsSync('/dev/full'))('by a full disk: says so, and is no reason to retry', async () => {
    symlinkSync('/dev/full', partial);
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'download_incomplete',
      retryable: false,
      details: { found: 'ENOSPC' },
      hint: expect.stringContaining('OPEN_AUTOGLM_CACHE'),
    });
    expect(existsSync(target)).toBe(false);
  });

  test('before it starts, when the disk cannot hold the file', async () => {
    server.faults.push((_, response) => {
      response.writeHead(200, { 'content-length': String(2 ** 52) });
      response.write('x');
      return true;
    });
    await expect(fetchFile({ facts: { sha256: null, size: null } })).rejects.toMatchObject({
      code: 'download_incomplete',
      details: { needed: 2 ** 52 },
    });
  });

  test('by a folder that cannot be written: names the path', async () => {
    mkdirSync(partial);
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'download_failed',
      retryable: false,
      message: expect.stringContaining(partial),
    });
  });
});

describe('redirects', () => {
  test('the token stays with the host it is for', async () => {
    const other = await new FakeFiles().listen();
    try {
      other.put('/elsewhere', BYTES);
      server.faults.push(refuse(302, { location: `${other.url}/elsewhere` }));
      await fetchFile({ authorization: 'Bearer secret' });
      expect(server.seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer secret']);
      expect(other.seen.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    } finally {
      await other.close();
    }
  });

  test.each([['file:///etc/passwd'], ['ftp://127.0.0.1/x'], ['data:text/plain,x']])(
    'to %s are refused',
    async (location) => {
      server.faults.push(refuse(302, { location }));
      await expect(fetchFile()).rejects.toThrow(/redirects from http: to/);
    },
  );

  test('in a circle end', async () => {
    server.faults.push(refuse(302, { location: '/model.gguf' }, 1000));
    await expect(fetchFile()).rejects.toThrow(/more than 10 redirects/);
  });
});
