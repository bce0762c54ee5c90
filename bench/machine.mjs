// What the figures were taken on, and how steady it was.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';

export function describeMachine() {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    processors: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform}-${process.arch}`,
    node: process.version,
  };
}

const PROBE_BYTES = 1 << 20;
const PROBE_ROUNDS = 100;

/** MiB of SHA-256 per second on one thread: moves when others use the machine. */
export function probe() {
  const bytes = Buffer.alloc(PROBE_BYTES, 1);
  const startedAt = performance.now();
  for (let i = 0; i < PROBE_ROUNDS; i += 1) createHash('sha256').update(bytes).digest();
  return (PROBE_ROUNDS * 1_000) / (performance.now() - startedAt);
}

/** Processes that wanted to run, averaged over the last minute. */
export function loadAverage() {
  try {
    return Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]);
  } catch {
    return null; // not a Linux system
  }
}
