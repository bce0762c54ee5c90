import { expect, test } from 'vitest';
import type { PageKey } from '../../../../lib/scheduler/pages/page-keys';
import { PagePool } from '../../../../lib/scheduler/pages/page-pool';
import type { PageId } from '../../../../lib/scheduler/types';
import { Random } from '../../../simulation/random';

const key = (name: string): PageKey => name as PageKey;

function take(pool: PagePool): PageId {
  const page = pool.tryAllocate();
  if (page === null) throw new Error('expected a page');
  return page;
}

// Goal: no sequence of calls loses a page or hands one page to two owners.
// Method: 20,000 seeded random calls, checked after each against plain maps.
test('every page is owned, cached or free after any sequence of calls', () => {
  const pool = new PagePool(16);
  const random = new Random(7);
  const owners = new Map<PageId, number>();
  let numKeys = 0;
  for (let step = 0; step < 20_000; step += 1) {
    const owned = [...owners.keys()];
    const action = random.int(0, 3);
    if (action === 0) {
      const page = pool.tryAllocate();
      expect(page === null, `step ${step}`).toBe(owners.size === 16);
      if (page !== null) {
        expect(owners.has(page), `step ${step}: page ${page} was given out twice`).toBe(false);
        owners.set(page, 1);
      }
    } else if (action === 1 && owned.length > 0) {
      const page = random.pick(owned);
      const count = (owners.get(page) ?? 0) - 1;
      pool.release(page);
      if (count === 0) owners.delete(page);
      else owners.set(page, count);
    } else if (action === 2 && owned.length > 0) {
      numKeys += 1;
      pool.publish(random.pick(owned), key(String(numKeys)));
    } else {
      const page = pool.find(key(String(random.int(Math.max(0, numKeys - 20), numKeys))));
      if (page !== null) {
        pool.share(page);
        owners.set(page, (owners.get(page) ?? 0) + 1);
      }
    }
    pool.checkInvariants();
    for (const [page, count] of owners) expect(pool.refCount(page), `step ${step}`).toBe(count);
    expect(pool.numAvailable + owners.size, `step ${step}`).toBe(16);
  }
});

test('releasing a page twice throws and changes nothing', () => {
  const pool = new PagePool(2);
  const page = take(pool);
  pool.release(page);
  expect(() => pool.release(page)).toThrow(expect.objectContaining({ code: 'internal' }));
  expect(pool.numFree).toBe(2);
});

test('a released page with a key is found until it is handed out, and not after', () => {
  const pool = new PagePool(1);
  const page = take(pool);
  pool.publish(page, key('a'));
  pool.release(page);
  expect([pool.numFree, pool.numCached, pool.find(key('a'))]).toEqual([0, 1, page]);
  expect(take(pool)).toBe(page);
  expect([pool.find(key('a')), pool.keyOf(page)]).toEqual([null, null]);
});

test('free pages are used before cached ones, and of those the longest idle first', () => {
  const pool = new PagePool(4);
  const [a, b, c] = [take(pool), take(pool), take(pool)];
  for (const [page, name] of [
    [a, 'a'],
    [b, 'b'],
    [c, 'c'],
  ] as const)
    pool.publish(page, key(name));
  for (const page of [b, a, c]) pool.release(page);
  // Found and released again, b is the newest.
  pool.share(b);
  pool.release(b);
  expect([take(pool), take(pool), take(pool), take(pool)]).toEqual([3, a, c, b]);
  expect(pool.tryAllocate()).toBeNull();
});

test('sharing an idle page takes it from the available ones', () => {
  const pool = new PagePool(2);
  const page = take(pool);
  pool.publish(page, key('a'));
  pool.release(page);
  pool.share(page);
  expect(pool.numAvailable).toBe(1);
  take(pool);
  expect(pool.tryAllocate()).toBeNull();
});

test('of two pages with the same content the first keeps the key', () => {
  const pool = new PagePool(2);
  const [first, second] = [take(pool), take(pool)];
  pool.publish(first, key('a'));
  pool.publish(second, key('a'));
  expect(pool.find(key('a'))).toBe(first);
  pool.release(second);
  expect([pool.numFree, pool.numCached]).toEqual([1, 0]);
});

test('a page without an owner can be neither shared nor published', () => {
  const pool = new PagePool(1);
  expect(() => pool.share(0 as PageId)).toThrow(expect.objectContaining({ code: 'internal' }));
  expect(() => pool.publish(0 as PageId, key('a'))).toThrow(expect.objectContaining({ code: 'internal' }));
});
