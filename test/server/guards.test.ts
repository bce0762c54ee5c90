import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFetchHandler, type RunningServer, serve } from '../../lib/server';
import { errorSchema, modelListSchema } from '../../lib/server/wire/responses';
import { chatBody } from './raw-http';
import { ScriptedEngine } from './scripted-engine';

// Goal: what a request may not do is refused before the engine hears of it, in words the client can act on.
const KEY = 'sk-canary-key';
const bearer = { authorization: `Bearer ${KEY}` };
let engine: ScriptedEngine;
let server: RunningServer;

beforeAll(async () => {
  engine = new ScriptedEngine('tiny', 'org/other');
  server = await serve(engine, { port: 0, apiKeys: [KEY], corsOrigins: ['https://app.example'] });
});
afterAll(() => server.close({ graceMs: 0 }));

type Body = string | Uint8Array | ReadableStream | null;
const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(server.url + path, { headers });
const post = (path: string, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(server.url + path, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...bearer, ...headers },
  });
const errorOf = async (response: Response) => errorSchema.parse(await response.json()).error;

describe('bodies', () => {
  const limits = { bodyBytes: 1_000, jsonDepth: 5, jsonElements: 30, choices: 3 };
  const handler = createFetchHandler(new ScriptedEngine(), { limits });
  const send = (body: Body, headers: Record<string, string> = {}): Promise<Response> =>
    handler(
      new Request('http://localhost/v1/chat/completions', {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', ...headers },
        ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
      } as RequestInit),
    );
  const padded = (size: number): string =>
    chatBody({ user: '' }).replace(
      '"user":""',
      `"user":"${'x'.repeat(size - Buffer.byteLength(chatBody({ user: '' })))}"`,
    );
  const streamed = (text: string): ReadableStream => new Blob([text]).stream();

  test('are limited in bytes, with and without a length given', async () => {
    for (const size of [400, 500]) expect((await send(padded(size))).status, String(size)).toBe(200);
    // Over the field’s own limit but within the body’s: the body is read and the field refused.
    for (const size of [999, 1_000]) {
      expect((await errorOf(await send(padded(size)))).param).toBe('user');
      expect((await errorOf(await send(streamed(padded(size))))).param).toBe('user');
    }
    for (const body of [padded(1_001), streamed(padded(1_001)), padded(100_000), streamed(padded(100_000))]) {
      const response = await send(body);
      expect(response.status).toBe(413);
      expect(response.headers.get('connection')).toBe('close');
      expect(await errorOf(response)).toMatchObject({
        code: 'body_too_large',
        allowed: 'at most 1000 bytes',
      });
    }
  });

  test('are limited in depth and values', async () => {
    const nested = (depth: number): string =>
      chatBody({ chat_template_kwargs: 0 }).replace(
        ':0',
        `:${'{"a":'.repeat(depth - 1)}1${'}'.repeat(depth - 1)}`,
      );
    for (const depth of [4, 5]) expect((await send(nested(depth))).status, String(depth)).toBe(200);
    expect((await errorOf(await send(nested(6)))).code).toBe('invalid_json');
    // Besides the array's own values there are 8: the body, model, messages, message, role, content, and two more.
    const many = (count: number): string =>
      chatBody({ chat_template_kwargs: { a: Array(count - 8).fill(1) } });
    for (const count of [29, 30]) expect((await send(many(count))).status, String(count)).toBe(200);
    expect((await errorOf(await send(many(31)))).message).toMatch(/more than 30/);
  });

  test('that are not plain JSON text in UTF-8 are refused', async () => {
    const cases: readonly [Body, Record<string, string>, number, string][] = [
      [null, {}, 400, 'invalid_json'],
      ['', {}, 400, 'invalid_json'],
      ['{', {}, 400, 'invalid_json'],
      ['{"model": secret}', {}, 400, 'invalid_json'],
      ['\u{feff}{}', {}, 400, 'invalid_json'],
      [new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]), {}, 400, 'invalid_json'],
      [new Uint8Array([0xff, 0xfe, 0x7b, 0, 0x7d, 0]), {}, 400, 'invalid_json'],
      [new Uint8Array([0x22, 0xed, 0xa0, 0x80, 0x22]), {}, 400, 'invalid_json'],
      ['{"model":"a","model":"b"}', {}, 400, 'invalid_json'],
      ['{"__proto__":{"model":"a"}}', {}, 400, 'invalid_json'],
      ['[]', {}, 400, 'invalid_parameter'],
      ['{}', { 'content-type': 'text/plain' }, 415, 'unsupported_media_type'],
      ['{}', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 'unsupported_media_type'],
      ['{}', { 'content-type': 'application/json; charset=latin1' }, 415, 'unsupported_media_type'],
      ['{}', { 'content-encoding': 'gzip' }, 415, 'unsupported_media_type'],
    ];
    for (const [body, headers, status, code] of cases) {
      const response = await send(body, headers);
      const error = await errorOf(response);
      expect([response.status, error.code], String(body)).toEqual([status, code]);
      expect(JSON.stringify(error)).not.toContain('secret');
    }
    expect((await errorOf(await send('\u{feff}{}'))).message).toContain('byte order mark');
    expect((await send(chatBody(), { 'content-type': 'Application/JSON; Charset="UTF-8"' })).status).toBe(
      200,
    );
  });

  test('may ask for as many answers as the limit says', async () => {
    expect((await send(chatBody({ n: 3 }))).status).toBe(200);
    expect((await errorOf(await send(chatBody({ n: 4 })))).allowed).toBe('an integer in 1..3');
  });
});

describe('web pages of others', () => {
  test('cannot call, whatever way they try', async () => {
    const evil = { origin: 'https://evil.example' };
    for (const response of [
      await get('/health', evil),
      await get('/v1/models', { ...bearer, ...evil }),
      await post('/v1/chat/completions', chatBody(), evil),
      await fetch(`${server.url}/v1/models`, {
        method: 'OPTIONS',
        headers: { ...evil, 'access-control-request-method': 'GET' },
      }),
    ]) {
      expect(response.status).toBe(403);
      expect(response.headers.get('access-control-allow-origin')).toBeNull();
      expect((await errorOf(response)).code).toBe('forbidden_origin');
    }
  });

  test('can when their origin is configured, errors included', async () => {
    const ours = { origin: 'https://app.example' };
    const preflight = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: {
        ...ours,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,x-stainless-os',
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-headers')).toBe('authorization,x-stainless-os');
    const answer = await post('/v1/chat/completions', chatBody(), ours);
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([
      200,
      'https://app.example',
    ]);
    const refused = await post('/v1/chat/completions', '{}', ours);
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([
      400,
      'https://app.example',
    ]);
  });

  test('the own page can', async () => {
    expect((await post('/v1/chat/completions', chatBody(), { origin: server.url })).status).toBe(200);
  });
});

describe('the Host header', () => {
  const handler = createFetchHandler(new ScriptedEngine(), { allowedHosts: ['api.example'] });
  const ask = (url: string, host?: string): Promise<Response> =>
    handler(new Request(`${url}/health`, host === undefined ? {} : { headers: { host } }));

  test('is checked before anything else, in the header and in the target', async () => {
    expect((await ask('http://localhost')).status).toBe(200);
    expect((await ask('http://api.example')).status).toBe(200);
    for (const [url, host] of [
      ['http://evil.example', undefined],
      ['http://localhost', 'evil.example'],
      ['http://evil.example', 'localhost'],
    ] as const) {
      const response = await ask(url, host);
      expect(response.status, `${url} ${host}`).toBe(403);
      expect((await errorOf(response)).code).toBe('forbidden_host');
    }
  });
});

describe('starting', () => {
  test('on an address others can reach needs a key', async () => {
    for (const host of ['0.0.0.0', '::', '10.1.2.3', 'box.lan'])
      await expect(serve(engine, { host, port: 0 })).rejects.toMatchObject({
        code: 'invalid_parameter',
        message: expect.stringContaining('without an API key'),
      });
    const open = await serve(engine, { host: '0.0.0.0', port: 0, apiKeys: [KEY] });
    expect((await fetch(`http://127.0.0.1:${open.port}/health`)).status).toBe(200);
    await open.close();
  });

  test('with a port in use or settings that make no sense says so', async () => {
    await expect(serve(engine, { port: server.port })).rejects.toMatchObject({
      code: 'invalid_parameter',
      details: { path: 'port' },
    });
    await expect(serve(engine, { port: 70_000 })).rejects.toMatchObject({ details: { path: 'port' } });
    await expect(serve(engine, { port: 0, apiKeys: [''] })).rejects.toMatchObject({
      details: { path: 'apiKeys' },
    });
    await expect(serve(engine, { port: 0, corsOrigins: ['*'] })).rejects.toMatchObject({
      details: { path: 'corsOrigins' },
    });
    await expect(serve(engine, { port: 0, corsOrigins: ['https://a.example/x'] })).rejects.toMatchObject({
      details: { path: 'corsOrigins' },
    });
    await expect(serve(engine, { port: 0, limits: { bodyBytes: 0 } })).rejects.toMatchObject({
      details: { path: 'limits.bodyBytes' },
    });
    await expect(serve(engine, { port: 0, limits: { bodyByte: 1 } as object })).rejects.toMatchObject({
      details: { path: 'limits.bodyByte' },
    });
  });

  test('with a list of models serves just those', async () => {
    const handler = createFetchHandler({ engine, models: engine.models.slice(1) });
    const list = modelListSchema.parse(
      await (await handler(new Request('http://localhost/v1/models'))).json(),
    );
    expect(list.data.map((model) => model.id)).toEqual(['org/other']);
  });
});

describe('tenants', () => {
  test('with keys of their own do not share cached prefixes', async () => {
    const own = new ScriptedEngine();
    const handler = createFetchHandler(own, { apiKeys: ['sk-a', 'sk-b'] });
    for (const [key, salt] of [
      ['sk-a', undefined],
      ['sk-b', undefined],
      ['sk-a', 'x'],
      ['sk-a', undefined],
    ] as const)
      await handler(
        new Request('http://localhost/v1/chat/completions', {
          method: 'POST',
          body: chatBody({ cache_salt: salt }),
          headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
        }),
      );
    const salts = own.model.seen.map((call) => call.options.cacheSalt);
    expect(new Set(salts).size).toBe(3);
    expect(salts[3]).toBe(salts[0]);
    expect(salts.join()).not.toContain('sk-');
  });
});
