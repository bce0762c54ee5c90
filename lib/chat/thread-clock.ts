import { openSync, readSync } from 'node:fs';

/** Milliseconds of a monotonic clock. */
export type Clock = () => number;

/**
 * Processor time of the calling thread, or, where the system does not tell, the time on the wall. A machine with more to do
 * than it can may keep a thread waiting for many times what its work takes.
 */
export function threadClock(): Clock {
  const fd = openScheduleStatistics();
  if (fd === null) return () => performance.now();
  const buffer = Buffer.alloc(64);
  const read = (): number => {
    const text = buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0));
    return Number.parseInt(text, 10) / 1e6;
  };
  return read() > 0 ? read : () => performance.now();
}

/** Linux: "nanoseconds run, nanoseconds waited, time slices" of the thread that opens it. */
function openScheduleStatistics(): number | null {
  try {
    return openSync('/proc/thread-self/schedstat', 'r');
  } catch {
    return null;
  }
}
