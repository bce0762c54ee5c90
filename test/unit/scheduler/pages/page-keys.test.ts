import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { chainKey, rootKey } from '../../../../lib/scheduler/pages/page-keys';

const tokens = Int32Array.from({ length: 40 }, (_, i) => i * 70_000 - 5);

test('a key is the SHA-256 of the parent key and the page of tokens', () => {
  const root = createHash('sha256').update('tenant', 'utf8').digest();
  const page = Buffer.alloc(64);
  for (let i = 0; i < 16; i += 1) page.writeInt32LE(tokens[16 + i] ?? 0, 4 * i);
  const expected = createHash('sha256')
    .update(Buffer.concat([root, page]))
    .digest('binary');
  expect(chainKey(rootKey('tenant'), tokens, 16)).toBe(expected);
});

test('each token of a page, the pages before it and the salt change its key', () => {
  const keyOf = (edited: Int32Array, salt = ''): string =>
    chainKey(chainKey(rootKey(salt), edited, 0), edited, 16);
  const original = keyOf(tokens);
  for (let position = 0; position < 32; position += 1) {
    const edited = tokens.slice();
    edited[position] = 1;
    expect(keyOf(edited), `position ${position}`).not.toBe(original);
  }
  expect(keyOf(tokens, 'other')).not.toBe(original);
  expect(keyOf(tokens)).toBe(original);
});
