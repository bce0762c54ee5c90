import { expect } from 'vitest';

/** Polls often and for long: a busy machine makes a test slow, not red. */
export const eventually = <Value>(read: () => Value, message?: string) =>
  expect.poll(read, { timeout: 20_000, interval: 2, ...(message === undefined ? {} : { message }) });
