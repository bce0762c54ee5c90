import { expect, test } from 'vitest';
import { Throughput } from '../../../lib/scheduler/throughput';

test('the retry hint is the queue divided by the measured speed', () => {
  const throughput = new Throughput();
  for (let step = 1; step <= 200; step += 1) throughput.stepEnded((step - 1) * 50, step * 50, 100);
  // 100 tokens in 50 ms: 20,000 tokens take 10 s.
  expect(throughput.retryAfterMs(20_000)).toBe(10_000);
});

test('overlapping steps are not counted twice', () => {
  const throughput = new Throughput();
  for (let step = 1; step <= 200; step += 1) throughput.stepEnded((step - 2) * 50, step * 50, 100);
  expect(throughput.retryAfterMs(20_000)).toBe(10_000);
});

test('the hint stays between a second and a minute, also before anything was measured', () => {
  const throughput = new Throughput();
  expect(throughput.retryAfterMs(1_000_000)).toBe(1_000);
  throughput.stepEnded(0, 1_000, 1);
  expect([throughput.retryAfterMs(0), throughput.retryAfterMs(1_000_000)]).toEqual([1_000, 60_000]);
});
