import { expect, test } from 'vitest';
import type { RequestMessage } from '../../../../lib/engine/worker/protocol';
import { prefixSalt, ropeTableOf } from '../../../../lib/engine/worker/rope-choice';

const request = (numTokens: number, maxTokens: number): RequestMessage =>
  ({ tokens: new Int32Array(numTokens), settings: { maxTokens }, salt: 'tenant' }) as RequestMessage;

test('a request that may grow longer than the original length takes the second table, whatever its prompt', () => {
  expect(ropeTableOf(request(60, 4), 64)).toBe(0);
  expect(ropeTableOf(request(60, 5), 64)).toBe(1);
  expect(ropeTableOf(request(65, 0), 64)).toBe(1);
  expect(ropeTableOf(request(5000, 5000), null)).toBe(0);
});

test('no salt that a caller may choose makes two tables or two adapters share cached prefixes', () => {
  const salts = [0, 1].flatMap((table) =>
    [0, 1, 11].flatMap((adapter) =>
      ['', '0:', '1:', '1:tenant'].map((salt) => prefixSalt({ adapter, salt }, table)),
    ),
  );
  expect(new Set(salts).size).toBe(salts.length);
});
