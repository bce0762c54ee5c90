import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { resolveSource } from '../../../../lib/model/source/resolve-source';
import { withFileLock } from '../../../../lib/model/source/transfer/file-lock';
import { compileSource, MODULES } from './compiled-source';
import { FakeHub, sampleBytes, sha256 } from './fake-hub';
import { isolateCaches } from './isolated-caches';

const caches = isolateCaches();
const SIZE = 2_000_000;
const BYTES = sampleBytes(SIZE);
const SOURCE = 'hf:org/gguf:model.gguf';
let hub: FakeHub;
let compiled: string;
let modulePath: string;

beforeAll(() => {
  compiled = mkdtempSync(join(tmpdir(), 'open-autoglm-compiled-'));
  modulePath = compileSource(compiled);
});
afterAll(() => rmSync(compiled, { recursive: true, force: true }));
beforeEach(async () => {
  hub = await FakeHub.start();
  process.env.HF_ENDPOINT = hub.url;
  hub.addRepository('org/gguf', { 'model.gguf': BYTES });
});
afterEach(() => hub.close());

const blobFolder = (): string => join(caches.folder, 'hf', 'hub', 'models--org--gguf', 'blobs');
const blob = (): string => join(blobFolder(), sha256(BYTES));

/** A process that resolves the source, prints a line per progress event and then the path. */
function startChild(): { child: ChildProcess; exited: Promise<{ code: number | null; output: string }> } {
  const script = `
    require(${JSON.stringify(modulePath)})
      .resolveSource(${JSON.stringify(SOURCE)}, { onProgress: (p) => console.log('loaded ' + p.loaded) })
      .then((found) => console.log('path ' + found.path), (error) => { console.log(error); process.exitCode = 1; });
  `;
  const child = spawn(process.execPath, ['-e', script], { env: { ...process.env, ...MODULES } });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  child.stderr.on('data', (text) => {
    output += text;
  });
  const exited = new Promise<{ code: number | null; output: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, output }));
  });
  return { child, exited };
}

/** Makes the file server send slowly, so that a kill finds the download at any point; gives the bytes sent so far. */
function sendSlowly(chunkBytes: number): { sent: () => number } {
  let sent = 0;
  hub.store.faults.push((request, response) => {
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const headers = { 'content-length': SIZE - start, 'content-range': `bytes ${start}-${SIZE - 1}/${SIZE}` };
    response.writeHead(start === 0 ? 200 : 206, headers);
    let offset = start;
    const timer = setInterval(() => {
      const end = Math.min(SIZE, offset + chunkBytes);
      response.write(BYTES.subarray(offset, end));
      sent += end - offset;
      offset = end;
      if (offset < SIZE) return;
      clearInterval(timer);
      response.end();
    }, 2);
    response.once('close', () => clearInterval(timer));
    return true;
  });
  return { sent: () => sent };
}

// Goal: a kill at any point leaves either nothing visible or the whole file, and the next process goes on.
// Method: kill -9 after a random amount of bytes, over and over; every start must find and keep what was there.
test('kill -9 at random points: never a file under its name before it is whole, and the bytes add up', async () => {
  const { sent } = sendSlowly(10_000);
  let random = 12345;
  let numKills = 0;
  for (let run = 0; !existsSync(blob()); run += 1) {
    expect(run, 'the download makes progress').toBeLessThan(40);
    const { child, exited } = startChild();
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    const until = sent() + 50_000 + (random % 400_000);
    while (sent() < until && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 1));
    if (child.kill('SIGKILL')) numKills += 1;
    await exited;
    const names = existsSync(blobFolder()) ? readdirSync(blobFolder()) : [];
    for (const name of names) {
      if (name === sha256(BYTES)) expect(readFileSync(join(blobFolder(), name)).equals(BYTES)).toBe(true);
      else expect(name).toContain('.incomplete');
    }
  }
  const { path } = await resolveSource(SOURCE);
  expect(readFileSync(path).equals(BYTES)).toBe(true);
  expect(numKills).toBeGreaterThan(2);
  // Each kill may cost what was on its way, never what had been written.
  expect(sent()).toBeLessThan(SIZE + (numKills + 1) * 400_000);
  expect(readdirSync(blobFolder())).toEqual([sha256(BYTES)]);
});

test('two processes at once fetch the bytes once and both get the file', async () => {
  sendSlowly(50_000);
  const results = await Promise.all([startChild().exited, startChild().exited]);
  for (const { code, output } of results) {
    expect(output).toMatch(/path .*model\.gguf/);
    expect(code).toBe(0);
  }
  expect(hub.store.downloads()).toHaveLength(1);
});

test('a process that waits for another one takes over when that one is killed', async () => {
  // Two seconds in all: the first process must not be done before it is killed.
  const { sent } = sendSlowly(2_000);
  const first = startChild();
  while (sent() < 200_000) await new Promise((resolve) => setTimeout(resolve, 5));
  const second = startChild();
  await new Promise((resolve) => setTimeout(resolve, 400));
  first.child.kill('SIGKILL');
  const { code, output } = await second.exited;
  expect(output).toMatch(/path .*model\.gguf/);
  expect(code).toBe(0);
  expect(hub.store.downloads().at(-1)?.headers.range).toMatch(/^bytes=[1-9]\d+-$/);
});

test('SIGTERM in a download ends the process at once', async () => {
  const { sent } = sendSlowly(1_000);
  const { child, exited } = startChild();
  while (sent() < 20_000) await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill('SIGTERM');
  await exited;
  expect(child.signalCode).toBe('SIGTERM');
});

describe('the lock file', () => {
  const lockPath = (): string => join(caches.folder, 'x.lock');
  const leaveLock = (owner: object): void => {
    mkdirSync(caches.folder, { recursive: true });
    writeFileSync(lockPath(), JSON.stringify(owner));
  };
  const lock = <T>(body: () => Promise<T>, signal?: AbortSignal): Promise<T> =>
    withFileLock(lockPath(), signal, () => {}, body);

  test('admits one at a time, in this process too', async () => {
    let numInside = 0;
    const enter = (): Promise<void> =>
      lock(async () => {
        numInside += 1;
        expect(numInside).toBe(1);
        await new Promise((resolve) => setTimeout(resolve, 30));
        numInside -= 1;
      });
    await Promise.all([enter(), enter(), enter()]);
    expect(existsSync(lockPath())).toBe(false);
  });

  test('of a dead process is taken over at once', async () => {
    leaveLock({ pid: 2 ** 22 + 1, host: hostname(), token: 'x' });
    expect(await lock(async () => 'in')).toBe('in');
  });

  test('of a live process is waited for, until the caller aborts', async () => {
    leaveLock({ pid: process.ppid, host: hostname(), token: 'x' });
    const signal = AbortSignal.timeout(250);
    await expect(lock(async () => 'in', signal)).rejects.toMatchObject({ code: 'aborted' });
    expect(existsSync(lockPath())).toBe(true);
  });

  test('of another machine is not judged by its process number', async () => {
    leaveLock({ pid: 2 ** 22 + 1, host: 'another', token: 'x' });
    const signal = AbortSignal.timeout(250);
    await expect(lock(async () => 'in', signal)).rejects.toMatchObject({ code: 'aborted' });
  });

  test('is released when the body fails', async () => {
    const failing = lock(async () => {
      throw new Error('mine');
    });
    await expect(failing).rejects.toThrow('mine');
    expect(await lock(async () => 'in')).toBe('in');
  });
});
