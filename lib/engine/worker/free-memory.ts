import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { dirname, join } from 'node:path';

/** Reads a small file of the system, or null where the system has no such file. */
export type ReadSystemFile = (path: string) => string | null;

const readSystemFile: ReadSystemFile = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null; // not Linux, or this controller is off: there is no such limit
  }
};

/**
 * Bytes this process can still take: what the system calls available, and no more than each control group above the
 * process leaves. File cache counts as free: a group that has just read a model is full of it.
 */
export function freeMemory(read: ReadSystemFile = readSystemFile): number {
  const meminfo = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '');
  const system = meminfo === null ? freemem() : Number(meminfo[1]) * 1024;
  return Math.max(0, Math.min(system, ...groupLimits(read)));
}

function groupLimits(read: ReadSystemFile): number[] {
  const limits: number[] = [];
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = line.split(':');
    if (path === undefined) continue;
    if (controllers === '') limits.push(...walk('/sys/fs/cgroup', path, (folder) => leftInV2(read, folder)));
    else if (controllers?.split(',').includes('memory')) {
      limits.push(...walk('/sys/fs/cgroup/memory', path, (folder) => leftInV1(read, folder)));
    }
  }
  return limits;
}

/** The group's folder and all above it: each may set a limit. In a container the inner folders may be out of sight. */
function walk(mount: string, path: string, leftIn: (folder: string) => number | null): number[] {
  const limits: number[] = [];
  for (let group = path; ; group = dirname(group)) {
    const left = leftIn(join(mount, group));
    if (left !== null) limits.push(left);
    if (group === '/' || group === '.') return limits;
  }
}

function leftInV2(read: ReadSystemFile, folder: string): number | null {
  return left(
    read(join(folder, 'memory.max')),
    read(join(folder, 'memory.current')),
    read(join(folder, 'memory.stat')),
    /^(?:in)?active_file (\d+)$/gm,
  );
}

function leftInV1(read: ReadSystemFile, folder: string): number | null {
  return left(
    read(join(folder, 'memory.limit_in_bytes')),
    read(join(folder, 'memory.usage_in_bytes')),
    read(join(folder, 'memory.stat')),
    /^total_(?:in)?active_file (\d+)$/gm,
  );
}

function left(
  limit: string | null,
  used: string | null,
  stat: string | null,
  fileCacheLines: RegExp,
): number | null {
  const max = Number(limit?.trim() || Number.NaN); // "max" means no limit
  if (!Number.isFinite(max) || used === null) return null;
  let fileCache = 0;
  for (const match of (stat ?? '').matchAll(fileCacheLines)) fileCache += Number(match[1]);
  return max - Math.max(0, Number(used) - fileCache);
}
