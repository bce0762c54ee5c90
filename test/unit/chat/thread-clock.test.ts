import { expect, test } from 'vitest';
import { threadClock } from '../../../lib/chat/thread-clock';

test.skipIf(process.platform !== 'linux')(
  'the clock of a thread stands still while the thread waits',
  async () => {
    const clock = threadClock();
    const before = clock();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(clock() - before).toBeLessThan(150);
  },
);

test('the clock goes on while the thread computes', () => {
  const clock = threadClock();
  const before = clock();
  let sum = 0;
  while (clock() - before < 20) sum += 1;
  expect(sum).toBeGreaterThan(0);
});
