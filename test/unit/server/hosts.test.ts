import { describe, expect, test } from 'vitest';
import { HostAllowList, hostOf, isLoopbackHost } from '../../../lib/server/guard/hosts';
import { CorsPolicy } from '../../../lib/server/guard/origins';

describe('the Host allow-list', () => {
  const table: readonly [string, string | null, string[], boolean][] = [
    // Host header, bound address, configured names, answered
    ['127.0.0.1', '127.0.0.1', [], true],
    ['127.0.0.1:8080', '127.0.0.1', [], true],
    ['127.8.9.10:80', '127.0.0.1', [], true],
    ['localhost:8080', '127.0.0.1', [], true],
    ['LOCALHOST', '127.0.0.1', [], true],
    ['app.localhost', '127.0.0.1', [], true],
    ['[::1]:8080', '127.0.0.1', [], true],
    ['[0:0:0:0:0:0:0:1]', '::1', [], true],
    ['[::ffff:127.0.0.1]', '::1', [], true],
    ['10.0.0.5', '127.0.0.1', [], false],
    ['10.0.0.5', '10.0.0.5', [], true],
    ['10.0.0.6', '10.0.0.5', [], false],
    ['10.0.0.6', '0.0.0.0', [], true],
    ['[2001:db8::2]:443', '2001:db8:0:0::2', [], true],
    ['[2001:DB8::2]', '2001:db8::2', [], true],
    ['[2001:db8::3]', '2001:db8::2', [], false],
    ['[2001:db8::3]', '::', [], true],
    ['evil.example', '127.0.0.1', [], false],
    ['evil.example', '0.0.0.0', [], false],
    ['localhost.evil.example', '127.0.0.1', [], false],
    ['evil.example', null, [], false],
    ['localhost', null, [], true],
    ['api.example:8443', null, ['api.example'], true],
    ['API.EXAMPLE', null, ['Api.Example'], true],
    ['other.example', null, ['api.example'], false],
    ['box.lan', 'box.lan', [], true],
    ['2130706433', '127.0.0.1', [], false],
    ['0x7f.1', '127.0.0.1', [], false],
    ['localhost.', '127.0.0.1', [], false],
    ['localhost:99999', '127.0.0.1', [], false],
    ['localhost@evil.example', '127.0.0.1', [], false],
    ['localhost, evil.example', '127.0.0.1', [], false],
    ['[::1', '127.0.0.1', [], false],
    ['', '127.0.0.1', [], false],
  ];
  for (const [header, bound, names, isAnswered] of table) {
    test(`${isAnswered ? 'answers' : 'refuses'} "${header}" when bound to ${bound} with names ${JSON.stringify(names)}`, () => {
      expect(new HostAllowList(bound, names).allows(header)).toBe(isAnswered);
    });
  }
});

test('hostOf takes the port off and keeps nothing malformed', () => {
  expect(hostOf('Example.COM:80')).toBe('example.com');
  expect(hostOf('[::1]:80')).toBe('::1');
  for (const bad of ['a b', 'a/b', 'a:b', ':80', '[::1]x', '[localhost]', 'a:80:80'])
    expect(hostOf(bad)).toBeNull();
});

test('only names and addresses that stay on the machine are loopback', () => {
  for (const host of ['localhost', 'a.localhost', '127.0.0.1', '127.255.0.1', '::1', '::ffff:127.0.0.1'])
    expect(isLoopbackHost(host), host).toBe(true);
  for (const host of [
    '0.0.0.0',
    '::',
    '10.0.0.1',
    '128.0.0.1',
    '::2',
    'localhostx',
    'example.com',
    '::ffff:10.0.0.1',
  ])
    expect(isLoopbackHost(host), host).toBe(false);
});

describe('origins', () => {
  const policy = new CorsPolicy(['https://app.example', 'null']);

  test('programs without an Origin and the own page may call', () => {
    expect(policy.headersFor(undefined, 'localhost:8080')).toEqual({});
    expect(policy.headersFor('http://localhost:8080', 'localhost:8080')).toEqual({});
    expect(policy.headersFor('https://api.example', 'api.example')).toEqual({});
    expect(policy.headersFor('http://[::1]:8080', '[::1]:8080')).toEqual({});
  });

  test('a configured origin may call and read', () => {
    expect(policy.headersFor('https://app.example', 'localhost:8080')).toMatchObject({
      'access-control-allow-origin': 'https://app.example',
    });
    expect(policy.headersFor('null', 'localhost')).toMatchObject({ 'access-control-allow-origin': 'null' });
  });

  test('any other page may not, whatever it shares with the host', () => {
    for (const origin of [
      'https://evil.example',
      'http://localhost:8081',
      'http://localhost',
      'http://127.0.0.1:8080',
      'https://app.example.evil.example',
      'http://app.example',
      'localhost:8080',
      'garbage',
    ])
      expect(() => policy.headersFor(origin, 'localhost:8080'), origin).toThrow(/may not call/);
    expect(() => new CorsPolicy([]).headersFor('null', 'localhost')).toThrow(/may not call/);
  });
});
