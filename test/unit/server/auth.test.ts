import { expect, test } from 'vitest';
import { ApiKeys } from '../../../lib/server/guard/auth';

const keys = new ApiKeys(['sk-one', 'sk-two']);

test('a configured key is known by a name that does not contain it', () => {
  const tenant = keys.tenantOf('Bearer sk-one');
  expect(tenant).toMatch(/^[0-9a-f]{16}$/);
  expect(keys.tenantOf('bearer  sk-one')).toBe(tenant);
  expect(keys.tenantOf('Bearer sk-two')).not.toBe(tenant);
});

test('anything else is not', () => {
  for (const header of [
    undefined,
    '',
    'sk-one',
    'Bearer',
    'Bearer ',
    'Bearer sk-on',
    'Bearer sk-onee',
    'Bearer sk-one ',
    'Bearer SK-ONE',
    'Basic sk-one',
    'Bearer sk-one, Bearer sk-two',
    `Bearer ${'x'.repeat(1_000_000)}`,
  ])
    expect(keys.tenantOf(header), header?.slice(0, 40)).toBeNull();
});

test('without keys none is required, and one key makes no tenants', () => {
  expect([new ApiKeys([]).isRequired, new ApiKeys(['a']).isRequired]).toEqual([false, true]);
  expect([new ApiKeys(['a']).hasTenants, keys.hasTenants]).toEqual([false, true]);
});
