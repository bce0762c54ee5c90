import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '../../byte-source';

const HEARTBEAT_MS = 5_000;
/** Twelve missed heartbeats: an owner on another machine is gone, or has been stopped for very long. */
const STALE_MS = 60_000;
/** An owner writes its name right after creating the file; one that did not has died in between. */
const NAMELESS_STALE_MS = 2_000;
const POLL_MS = 100;

interface Owner {
  readonly pid: number;
  readonly host: string;
  readonly token: string;
}

/**
 * Runs `body` while this process alone, among those that share the folder, holds the lock file. A lock whose owner died
 * (kill -9 included) is taken over at once on the same machine, after a minute on another one. Two owners at the same
 * time are unlikely, not impossible; what runs under the lock must then do no harm.
 */
export async function withFileLock<T>(
  path: string,
  signal: AbortSignal | undefined,
  onWait: () => void,
  body: () => Promise<T>,
): Promise<T> {
  const owner: Owner = { pid: process.pid, host: hostname(), token: randomUUID() };
  await mkdir(dirname(path), { recursive: true });
  for (let hasWaited = false; !(await tryAcquire(path, owner)); ) {
    throwIfAborted(signal);
    if (await isStale(path)) {
      await rm(path, { force: true });
      continue;
    }
    if (!hasWaited) onWait();
    hasWaited = true;
    await sleep(POLL_MS);
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    // A lock that somebody took over is not ours to touch; the next owner's own heartbeat keeps it alive.
    utimes(path, now, now).catch(() => clearInterval(heartbeat));
  }, HEARTBEAT_MS);
  heartbeat.unref();
  try {
    return await body();
  } finally {
    clearInterval(heartbeat);
    const current = await readOwner(path);
    if (current?.token === owner.token) await rm(path, { force: true });
  }
}

async function tryAcquire(path: string, owner: Owner): Promise<boolean> {
  const handle = await open(path, 'wx').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return null;
    throw error;
  });
  if (handle === null) return false;
  try {
    await handle.writeFile(JSON.stringify(owner));
  } finally {
    await handle.close();
  }
  return true;
}

async function isStale(path: string): Promise<boolean> {
  const owner = await readOwner(path);
  const stats = await stat(path).catch(() => null);
  if (stats === null) return false;
  const ageMs = Date.now() - stats.mtimeMs;
  if (owner === null) return ageMs > NAMELESS_STALE_MS;
  return ageMs > STALE_MS || (owner.host === hostname() && !isAlive(owner.pid));
}

async function readOwner(path: string): Promise<Owner | null> {
  const text = await readFile(path, 'utf8').catch(() => '');
  try {
    const value = JSON.parse(text) as Partial<Owner> | null;
    if (typeof value?.pid !== 'number' || typeof value.host !== 'string') return null;
    return { pid: value.pid, host: value.host, token: String(value.token) };
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
