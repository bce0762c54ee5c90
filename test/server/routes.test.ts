import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { AutoglmError } from '../../lib/errors';
import { createFetchHandler, type RunningServer, serve } from '../../lib/server';
import { ServerApp } from '../../lib/server/app';
import { DEFAULT_LIMITS, parseSettings } from '../../lib/server/options';
import { chatRequestSchema } from '../../lib/server/wire/chat-request';
import { errorSchema, healthSchema } from '../../lib/server/wire/responses';
import { eventually } from './eventually';
import { chatBody } from './raw-http';
import { gate, ScriptedEngine } from './scripted-engine';

const KEY = 'sk-canary-key';
const bearer = { authorization: `Bearer ${KEY}` };
let engine: ScriptedEngine;
let server: RunningServer;

beforeAll(async () => {
  engine = new ScriptedEngine('tiny', 'org/other');
  server = await serve(engine, { port: 0, apiKeys: [KEY], corsOrigins: ['https://app.example'] });
});
afterAll(() => server.close({ graceMs: 0 }));

const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(server.url + path, { headers });
const post = (path: string, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(server.url + path, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...bearer, ...headers },
  });
const errorOf = async (response: Response) => errorSchema.parse(await response.json()).error;

describe('the routes', () => {
  const app = new ServerApp(new ScriptedEngine(), parseSettings({ apiKeys: [KEY] }, null));
  const inventory = app.routes.map(({ method, path }) => `${method} ${path}`);

  test('are exactly these', () => {
    expect(inventory).toEqual([
      'POST /v1/chat/completions',
      'POST /v1/completions',
      'POST /v1/embeddings',
      'POST /v1/rerank',
      'POST /predict',
      'GET /v1/models',
      'GET /v1/models/:id{.+}',
      'GET /health',
      'GET /metrics',
      'GET /openapi.json',
      'GET /',
      'GET /page/app.js',
      'GET /page/style.css',
    ]);
  });

  const isPublic = ['GET /health', 'GET /', 'GET /page/app.js', 'GET /page/style.css'];
  for (const route of inventory) {
    const [method = '', template = ''] = route.split(' ');
    const path = template.replace(':id{.+}', 'tiny');
    test(`${route} ${isPublic.includes(route) ? 'is open to all' : 'needs a key, the right one, in its header'}`, async () => {
      const wrong: Record<string, string>[] = [
        {},
        { authorization: 'Bearer wrong' },
        { 'x-api-key': KEY },
        { authorization: KEY },
      ];
      for (const headers of wrong) {
        for (const suffix of ['', `?api_key=${KEY}`]) {
          const response = await fetch(server.url + path + suffix, { method, headers });
          if (isPublic.includes(route)) {
            expect(response.status).toBe(200);
            continue;
          }
          expect(response.status).toBe(401);
          expect(response.headers.get('www-authenticate')).toBe('Bearer');
          expect(JSON.stringify(await errorOf(response))).not.toContain(KEY);
        }
      }
      expect((await fetch(server.url + path, { method, headers: bearer })).status).not.toBe(401);
    });
  }

  test('that do not exist need a key to be known as missing', async () => {
    expect((await get('/v1/nothing')).status).toBe(401);
    const missing = await get('/v1/nothing', bearer);
    expect(missing.status).toBe(404);
    expect(await errorOf(missing)).toMatchObject({ code: 'not_found', found: '/v1/nothing' });
    for (const path of ['/page/../../package.json', '/page/%2e%2e/options.ts', '/page/', '/v1/models/'])
      expect((await get(path, bearer)).status, path).toBe(404);
  });

  test('asked with another method name those they have', async () => {
    for (const [path, method, allow] of [
      ['/v1/chat/completions', 'GET', 'POST'],
      ['/v1/chat/completions', 'DELETE', 'POST'],
      ['/v1/models', 'POST', 'GET'],
      ['/health', 'PUT', 'GET'],
    ] as const) {
      const response = await fetch(server.url + path, { method, headers: bearer });
      expect(response.status, path).toBe(405);
      expect(response.headers.get('allow')).toBe(allow);
      expect((await errorOf(response)).code).toBe('method_not_allowed');
    }
  });

  test('answer HEAD as GET without a body', async () => {
    const response = await fetch(`${server.url}/health`, { method: 'HEAD' });
    expect([response.status, await response.text()]).toEqual([200, '']);
  });

  test('echo a sound request id and make one otherwise', async () => {
    expect((await get('/health', { 'x-request-id': 'abc-1' })).headers.get('x-request-id')).toBe('abc-1');
    for (const bad of ['a b', 'x'.repeat(129), '<script>'])
      expect((await get('/health', { 'x-request-id': bad })).headers.get('x-request-id')).toMatch(
        /^req_[0-9a-f-]{36}$/,
      );
  });
});

describe('health', () => {
  const healthOf = async (own: ScriptedEngine, limits = {}) => {
    const response = await createFetchHandler(own, { limits })(new Request('http://localhost/health'));
    return { httpStatus: response.status, ...healthSchema.parse(await response.json()) };
  };
  const statsOf = (own: ScriptedEngine, stats: object) => {
    own.readStats = async () => ({
      threads: 1,
      models: { tiny: { ...(await own.model.stats()), ...stats } },
    });
  };

  test('is fine without work, however long ago the last step was', async () => {
    const own = new ScriptedEngine();
    expect(await healthOf(own)).toEqual({ httpStatus: 200, status: 'ok', reason: null });
    statsOf(own, { lastStepAgeMs: 1e9 });
    expect((await healthOf(own)).status).toBe('ok');
    statsOf(own, { lastStepAgeMs: null });
    expect((await healthOf(own)).status).toBe('ok');
  });

  test('is 503 with work and no step lately', async () => {
    const own = new ScriptedEngine();
    statsOf(own, { numRunning: 1, lastStepAgeMs: 999 });
    expect((await healthOf(own, { stepAgeMs: 1_000 })).status).toBe('ok');
    statsOf(own, { numWaiting: 1, lastStepAgeMs: 1_001 });
    expect(await healthOf(own, { stepAgeMs: 1_000 })).toMatchObject({ httpStatus: 503, status: 'stalled' });
  });

  test('is 503 when the engine fails or is silent', async () => {
    const own = new ScriptedEngine();
    own.readStats = () => Promise.reject(new AutoglmError('engine_failed', 'gone'));
    expect(await healthOf(own)).toMatchObject({ httpStatus: 503, status: 'failed', reason: 'engine_failed' });
    own.readStats = () => new Promise(() => {});
    expect(await healthOf(own)).toMatchObject({ httpStatus: 503, status: 'failed', reason: 'engine_failed' });
  });
});

describe('metrics', () => {
  test('have the names dashboards ask for, under both prefixes', async () => {
    await (await post('/v1/chat/completions', chatBody({ n: 2, max_tokens: 5 }))).json();
    await (await post('/v1/chat/completions', chatBody({ stream: true }))).text();
    await post('/v1/chat/completions', '{}');
    const text = await (await get('/metrics', bearer)).text();
    for (const prefix of ['vllm:', 'open_autoglm_']) {
      for (const name of [
        'num_requests_running',
        'num_requests_waiting',
        'kv_cache_usage_perc',
        'prompt_tokens_total',
        'generation_tokens_total',
        'num_preemptions_total',
        'prefix_cache_queries_total',
        'prefix_cache_hits_total',
        'spec_decode_num_draft_tokens_total',
        'spec_decode_num_accepted_tokens_total',
      ])
        expect(text, name).toMatch(new RegExp(`^${prefix}${name}\\{model_name="tiny",engine="0"\\} `, 'm'));
      for (const name of [
        'time_to_first_token_seconds',
        'inter_token_latency_seconds',
        'request_time_per_output_token_seconds',
        'e2e_request_latency_seconds',
        'request_queue_time_seconds',
        'request_inference_time_seconds',
        'request_prefill_time_seconds',
        'request_decode_time_seconds',
        'request_prompt_tokens',
        'request_generation_tokens',
        'request_params_n',
        'request_params_max_tokens',
      ])
        expect(text, name).toMatch(
          new RegExp(`^${prefix}${name}_bucket\\{le="[^"]+",model_name="tiny"`, 'm'),
        );
      expect(text).toMatch(new RegExp(`^${prefix}request_success_total\\{.*finished_reason="stop"`, 'm'));
    }
    expect(text).toContain('vllm:kv_cache_usage_perc{model_name="tiny",engine="0"} 0.3');
    expect(text).toMatch(/^open_autoglm_request_errors_total\{code="invalid_parameter"\} \d/m);
    expect(text).toMatch(
      /^open_autoglm_http_request_duration_seconds_count\{route="\/v1\/chat\/completions",status="200"\} \d/m,
    );
    // A second scrape reads counters anew instead of adding to them.
    const again = await (await get('/metrics', bearer)).text();
    expect(again).toContain('vllm:prompt_tokens_total{model_name="tiny",engine="0"} 50\n');
  });
});

describe('the OpenAPI document', () => {
  test('describes every API route and its schemas accept their own examples', async () => {
    const document = (await (await get('/openapi.json', bearer)).json()) as {
      openapi: string;
      paths: Record<string, object>;
      components: { schemas: Record<string, z.core.JSONSchema.BaseSchema> };
    };
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/health',
      '/metrics',
      '/openapi.json',
      '/predict',
      '/v1/chat/completions',
      '/v1/completions',
      '/v1/embeddings',
      '/v1/models',
      '/v1/models/{id}',
      '/v1/rerank',
    ]);
    const { schemas } = document.components;
    const references = [...JSON.stringify(document.paths).matchAll(/#\/components\/schemas\/(\w+)/g)].map(
      (match) => match[1],
    );
    expect([...new Set(references)].sort()).toEqual(Object.keys(schemas).sort());
    let numExamples = 0;
    for (const [name, schema] of Object.entries(schemas)) {
      const check = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]);
      for (const example of (schema.examples as unknown[] | undefined) ?? []) {
        expect(check.safeParse(example).success, name).toBe(true);
        expect(check.safeParse({ ...(example as object), unknown: 1 }).success, name).toBe(false);
        numExamples += 1;
      }
    }
    expect(numExamples).toBe(3);
  });

  test('is made from the schemas requests are checked with', () => {
    const schema = z.toJSONSchema(chatRequestSchema({ ...DEFAULT_LIMITS, choices: 3 }), { io: 'input' });
    expect(schema.properties?.n).toMatchObject({ maximum: 3 });
  });
});

describe('the page', () => {
  test('brings all it needs and may load nothing else', async () => {
    const response = await get('/');
    const html = await response.text();
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    const links = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? '');
    expect(links.sort()).toEqual(['data:,', 'page/app.js', 'page/style.css']);
    expect(html).not.toMatch(/<script>|style=|\son\w+=/);
    for (const path of ['/page/app.js', '/page/style.css']) {
      const file = await get(path);
      expect(file.status).toBe(200);
      expect(await file.text()).not.toMatch(/https?:\/\//);
    }
  });

  test('can be left out', async () => {
    const handler = createFetchHandler(new ScriptedEngine(), { page: false });
    for (const path of ['/', '/page/app.js'])
      expect((await handler(new Request(`http://localhost${path}`))).status).toBe(404);
  });
});

describe('a host that owns the socket', () => {
  test('and reads no further has its answer ended with an error', async () => {
    const own = new ScriptedEngine();
    own.model.script = () => ({ tokens: Array(3_000).fill('x'.repeat(1_000)) });
    const handler = createFetchHandler(own, { limits: { stallMs: 100, streamBufferBytes: 10_000 } });
    const response = await handler(
      new Request('http://localhost/v1/chat/completions', {
        method: 'POST',
        body: chatBody({ stream: true }),
        headers: { 'content-type': 'application/json' },
      }),
    );
    await eventually(() => own.model.seen[0]?.outcome).toBe('aborted');
    const text = await response.text();
    expect(text.length).toBeLessThan(20_000);
    expect(text).toMatch(/\ndata: \{"error":\{.*"code":"aborted".*\}\}\n\n$/);
  });

  test('tells of a client that went away by the signal of its request', async () => {
    const own = new ScriptedEngine();
    own.model.script = () => ({ tokens: ['a'], beforeToken: () => new Promise(() => {}) });
    const controller = new AbortController();
    const answer = createFetchHandler(own)(
      new Request('http://localhost/v1/chat/completions', {
        method: 'POST',
        body: chatBody(),
        headers: { 'content-type': 'application/json' },
        signal: controller.signal,
      }),
    );
    await eventually(() => own.model.numRunning).toBe(1);
    controller.abort();
    expect((await answer).status).toBe(499);
    expect(own.model.seen[0]?.outcome).toBe('aborted');
  });
});

describe('logs', () => {
  test('have one record per request, and neither prompts nor answers nor keys', async () => {
    const records: { level: string; text: string; fields?: Readonly<Record<string, unknown>> }[] = [];
    const own = new ScriptedEngine();
    const { opened, open } = gate();
    own.model.script = (options) => ({
      tokens: ['canary-answer'],
      beforeToken: () => {
        if (options.seed === 1) throw new Error('boom');
        return options.seed === 2 ? opened : undefined;
      },
    });
    const handler = createFetchHandler(own, { apiKeys: [KEY], logger: (record) => records.push(record) });
    const send = (body: string): Promise<Response> =>
      handler(
        new Request('http://localhost/v1/chat/completions?q=canary-query', {
          method: 'POST',
          body,
          headers: { 'content-type': 'application/json', ...bearer },
        }),
      );
    const canary = { messages: [{ role: 'user', content: 'canary-prompt' }] };
    await (await send(chatBody(canary))).json();
    await (await send(chatBody({ ...canary, stream: true }))).text();
    await send(chatBody({ ...canary, seed: 1 }));
    await send(chatBody({ ...canary, seed: 1, stream: true }));
    await send('{"canary-broken');
    open();
    const requests = records.filter((record) => record.text === 'request');
    expect(requests.map(({ fields }) => [fields?.status, fields?.error ?? null])).toEqual([
      [200, null],
      [200, null],
      [500, 'internal'],
      [500, 'internal'],
      [400, 'invalid_parameter'],
    ]);
    for (const record of requests.slice(0, 2))
      expect(record.fields).toMatchObject({
        route: '/v1/chat/completions',
        model: 'tiny',
        prompt_tokens: 9,
        cached_tokens: 4,
        completion_tokens: 1,
      });
    expect(records.filter((record) => record.level === 'error')).toHaveLength(2);
    expect(JSON.stringify(records)).not.toMatch(/canary/);
  });

  test('that cannot be written cost nobody an answer', async () => {
    const logger = () => {
      throw new Error('disk full');
    };
    const handler = createFetchHandler(new ScriptedEngine(), { logger });
    for (const stream of [false, true]) {
      const response = await handler(
        new Request('http://localhost/v1/chat/completions', {
          method: 'POST',
          body: chatBody({ stream }),
          headers: { 'content-type': 'application/json' },
        }),
      );
      expect(response.status).toBe(200);
      expect(await response.text()).toContain('Hello');
    }
  });
});
