/**
 * Milliseconds of the system's monotonic clock. The same in every thread of the process, so that times may be compared
 * across threads; unlike `performance.now`, whose origin differs per worker.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
