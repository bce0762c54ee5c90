import { randomUUID } from 'node:crypto';
import type { HttpBindings } from '@hono/node-server';
import { type Context, Hono, type Next } from 'hono';
import type { Engine, Model } from '../engine/types';
import { AutoglmError } from '../errors';
import { AccessRecord } from './access-log';
import { CallRegistry } from './call';
import { ApiKeys } from './guard/auth';
import { readJsonBody } from './guard/body';
import { HostAllowList } from './guard/hosts';
import { CorsPolicy } from './guard/origins';
import { refuse, toHttpFailure } from './http-errors';
import { ServerMetrics } from './metrics';
import type { ServedModels, ServerSettings } from './options';
import { chatEndpoint, completionEndpoint, type Endpoint, type GenerateCall } from './routes/endpoints';
import { type Answer, answerStream, answerWhole } from './routes/generate';
import { checkHealth } from './routes/health';
import { findNamed, listNamed, toWireModel } from './routes/models';
import { openApiDocument } from './routes/openapi';
import { PAGE_HEADERS, readPage } from './routes/page';
import { modelFor, POOLED_ENDPOINTS, type PooledEndpoint } from './routes/pooled';

interface ServerEnv {
  Bindings: Partial<HttpBindings> & {
    /** Aborts when the connection of this request ends; where absent, the request's own signal tells. */
    readonly disconnected?: AbortSignal;
  };
  Variables: { record: AccessRecord; tenant: string | null };
}
type ServerContext = Context<ServerEnv>;

export interface Route {
  readonly method: 'GET' | 'POST';
  /** As Hono writes it. */
  readonly path: string;
  /** Served without an API key. */
  readonly isPublic: boolean;
  readonly handle: (c: ServerContext) => Response | Promise<Response>;
}

const REQUEST_ID = /^[A-Za-z0-9_.:-]{1,128}$/;

/** The routes and their guards over an engine; knows nothing of sockets. */
export class ServerApp {
  readonly calls = new CallRegistry();
  readonly routes: readonly Route[];
  readonly #served: ServedModels;
  readonly #engine: Engine;
  readonly #settings: ServerSettings;
  readonly #metrics: ServerMetrics;
  readonly #hosts: HostAllowList;
  readonly #cors: CorsPolicy;
  readonly #keys: ApiKeys;
  readonly #createdAt = Math.floor(Date.now() / 1000);
  readonly #hono = new Hono<ServerEnv>();

  constructor(served: ServedModels, settings: ServerSettings) {
    this.#served = served;
    this.#engine = 'engine' in served ? served.engine : served;
    this.#settings = settings;
    this.#metrics = new ServerMetrics(this.#engine);
    this.#hosts = new HostAllowList(settings.host, settings.allowedHosts);
    this.#cors = new CorsPolicy(settings.corsOrigins);
    this.#keys = new ApiKeys(settings.apiKeys);
    this.routes = [...this.#apiRoutes(), ...this.#pageRoutes()];
    this.#hono.use((c, next) => this.#wrap(c, next));
    this.#hono.use((c, next) => this.#guard(c, next));
    for (const { method, path, handle } of this.routes) this.#hono.on(method, path, handle);
    this.#hono.notFound((c) => this.#fail(c, this.#noRoute(c)));
    this.#hono.onError((error, c) => this.#fail(c, error));
  }

  async fetch(request: Request, bindings: ServerEnv['Bindings'] = {}): Promise<Response> {
    return this.#hono.fetch(request, bindings);
  }

  #apiRoutes(): readonly Route[] {
    const { limits } = this.#settings;
    const document = openApiDocument(limits);
    const chat = chatEndpoint(limits);
    const completion = completionEndpoint(limits);
    const key = { isPublic: false };
    return [
      { ...key, method: 'POST', path: '/v1/chat/completions', handle: (c) => this.#generate(c, chat) },
      { ...key, method: 'POST', path: '/v1/completions', handle: (c) => this.#generate(c, completion) },
      ...POOLED_ENDPOINTS.map(
        (endpoint): Route => ({
          ...key,
          method: 'POST',
          path: endpoint.path,
          handle: (c) => this.#pool(c, endpoint),
        }),
      ),
      { ...key, method: 'GET', path: '/v1/models', handle: (c) => this.#listModels(c) },
      {
        ...key,
        method: 'GET',
        path: '/v1/models/:id{.+}',
        handle: (c) =>
          c.json(toWireModel(findNamed(this.#served, c.req.param('id') ?? '', 'id'), this.#createdAt)),
      },
      { method: 'GET', path: '/health', isPublic: true, handle: (c) => this.#health(c) },
      { ...key, method: 'GET', path: '/metrics', handle: (c) => this.#renderMetrics(c) },
      { ...key, method: 'GET', path: '/openapi.json', handle: (c) => c.json(document) },
    ];
  }

  #pageRoutes(): readonly Route[] {
    if (!this.#settings.hasPage) return [];
    return readPage().map(({ path, contentType, text }) => ({
      method: 'GET',
      path,
      isPublic: true,
      handle: (c) => c.body(text, 200, { ...PAGE_HEADERS, 'content-type': contentType }),
    }));
  }

  /** The outermost layer: request id, headers every answer has, access log. Errors below are responses by now. */
  async #wrap(c: ServerContext, next: Next): Promise<void> {
    const given = c.req.header('x-request-id');
    const requestId = given !== undefined && REQUEST_ID.test(given) ? given : `req_${randomUUID()}`;
    const record = new AccessRecord(this.#settings.logger, requestId, c.req.method);
    c.set('record', record);
    c.set('tenant', null);
    await next();
    c.header('x-request-id', requestId);
    c.header('x-content-type-options', 'nosniff');
    c.header('referrer-policy', 'no-referrer');
    if (!record.isStreaming) this.#close(c, c.res.status);
  }

  #close(c: ServerContext, status: number): void {
    const { record } = c.var;
    const route = this.#routeOf(c)?.path ?? 'unknown';
    this.#metrics.observeHttp(route, status, record.elapsedMs);
    record.write(route, status);
  }

  async #guard(c: ServerContext, next: Next): Promise<Response | undefined> {
    const host = this.#checkHost(c);
    const corsHeaders = this.#cors.headersFor(c.req.header('origin'), host);
    if (c.req.method === 'OPTIONS' && c.req.header('access-control-request-method') !== undefined) {
      const preflight = this.#cors.preflightHeaders(c.req.header('access-control-request-headers'));
      return c.body(null, 204, { ...corsHeaders, ...preflight });
    }
    if (this.#routeOf(c)?.isPublic !== true) this.#authorize(c);
    await next();
    for (const [name, value] of Object.entries(corsHeaders)) c.header(name, value);
    return undefined;
  }

  #checkHost(c: ServerContext): string {
    const target = new URL(c.req.url).host;
    const header = c.req.header('host') ?? target;
    for (const host of [header, target]) {
      if (!this.#hosts.allows(host))
        throw new AutoglmError(
          'forbidden_host',
          `this server does not answer to the host "${host.slice(0, 128)}"`,
          {
            details: { where: 'header host', found: host.slice(0, 128) },
            hint: 'Name it in allowedHosts, or use the address the server is bound to.',
          },
        );
    }
    return header;
  }

  #authorize(c: ServerContext): void {
    if (!this.#keys.isRequired) return;
    const authorization = c.req.header('authorization');
    const tenant = this.#keys.tenantOf(authorization);
    if (tenant === null)
      throw new AutoglmError(
        'unauthorized',
        authorization === undefined
          ? 'this server needs an API key'
          : 'the API key is not known to this server',
        {
          details: {
            where: 'header authorization',
            found: authorization === undefined ? 'nothing' : 'another key',
            headers: { 'www-authenticate': 'Bearer' },
          },
          hint: 'Send it as "Authorization: Bearer KEY".',
        },
      );
    c.set('tenant', tenant);
  }

  /** The route of a request, HEAD counting as GET. */
  #routeOf(c: ServerContext): Route | undefined {
    const method = c.req.method === 'HEAD' ? 'GET' : c.req.method;
    return this.#routesAt(c.req.path).find((route) => route.method === method);
  }

  #routesAt(path: string): readonly Route[] {
    return this.routes.filter((route) => {
      const parameter = route.path.indexOf(':');
      return parameter === -1
        ? route.path === path
        : path.length > parameter && path.startsWith(route.path.slice(0, parameter));
    });
  }

  #noRoute(c: ServerContext): AutoglmError {
    const { method, path } = c.req;
    const methods = this.#routesAt(path).map((route) => route.method);
    if (methods.length === 0)
      return refuse('not_found', 'there is nothing at this path', {
        where: 'path',
        found: path.slice(0, 128),
        allowed: this.routes.map((route) => route.path).join(', '),
      });
    return refuse('method_not_allowed', `expected method ${methods.join(' or ')}, got ${method}`, {
      where: 'method',
      found: method,
      allowed: methods.join(', '),
      headers: { allow: methods.join(', ') },
    });
  }

  #fail(c: ServerContext, error: unknown): Response {
    const { record } = c.var;
    const { status, headers, body } = toHttpFailure(error, record.requestId);
    this.#countError(record, error);
    return new Response(JSON.stringify(body), {
      status,
      headers: { ...headers, 'content-type': 'application/json' },
    });
  }

  /** Once per request, however many layers the error passes. */
  #countError(record: AccessRecord, error: unknown): void {
    if (!record.setError(error)) return;
    this.#metrics.observeError(toHttpFailure(error, record.requestId).body.error.code);
  }

  #listModels(c: ServerContext): Response {
    return c.json({
      object: 'list',
      data: listNamed(this.#served).map((named) => toWireModel(named, this.#createdAt)),
    });
  }

  async #health(c: ServerContext): Promise<Response> {
    const health = await checkHealth(this.#engine, this.calls, this.#settings.limits);
    return c.json(health, health.status === 'ok' ? 200 : 503, { 'cache-control': 'no-store' });
  }

  async #renderMetrics(c: ServerContext): Promise<Response> {
    return c.body(await this.#metrics.render(), 200, { 'content-type': this.#metrics.contentType });
  }

  async #generate(c: ServerContext, endpoint: Endpoint): Promise<Response> {
    const disconnected = c.env.disconnected ?? c.req.raw.signal;
    const request = endpoint.parse(await readJsonBody(c.req.raw, this.#settings.limits));
    const { id, adapter, ...named } = findNamed(this.#served, request.model, 'model');
    const model = modelFor(this.#served, named.model.id, 'generate');
    const { record } = c.var;
    record.setModel(id);
    this.#metrics.observeRequest(model.id, request.choicesPerPrompt, request.prompts[0]?.maxTokens);
    const call = this.calls.begin(record.requestId, c.var.tenant);
    call.follow(disconnected);
    const answer: Answer = {
      model,
      call,
      shape: request.shapeFor(this.#head(id, model, endpoint)),
      prompts: withAdapter(this.#withTenantSalt(request, c.var.tenant), adapter),
      choicesPerPrompt: request.choicesPerPrompt,
      includeUsage: request.includeUsage,
      limits: this.#settings.limits,
      metrics: this.#metrics,
      onDone: (usage, error) => {
        record.setUsage(usage);
        if (error !== null) this.#countError(record, error);
        if (record.isStreaming) this.#close(c, 200);
      },
    };
    if (!request.isStream) return c.json(await answerWhole(answer));
    record.isStreaming = true;
    try {
      return await answerStream(answer);
    } catch (error) {
      record.isStreaming = false;
      throw error;
    }
  }

  async #pool(c: ServerContext, endpoint: PooledEndpoint): Promise<Response> {
    const { record } = c.var;
    const request = endpoint.parse(await readJsonBody(c.req.raw, this.#settings.limits));
    const model = modelFor(this.#served, request.model, request.task);
    record.setModel(model.id);
    const call = this.calls.begin(record.requestId, c.var.tenant);
    call.follow(c.env.disconnected ?? c.req.raw.signal);
    try {
      const { body, promptTokens } = await request.run(model, call.signal);
      record.setUsage({ promptTokens, completionTokens: 0, cachedTokens: 0 });
      return c.json(body);
    } catch (error) {
      throw call.reasonFor(error);
    } finally {
      call.end();
    }
  }

  #head(name: string, model: Model, { idPrefix }: Endpoint) {
    const { isa, abiVersion } = this.#engine.binary;
    return {
      id: idPrefix + randomUUID().replaceAll('-', ''),
      created: Math.floor(Date.now() / 1000),
      model: name,
      // The same fingerprint, seed and request give the same tokens.
      system_fingerprint: `${isa}-${abiVersion}-${model.info.precision}`,
    };
  }

  /** Each API key is a tenant with a prefix cache of its own, as soon as there is more than one. */
  #withTenantSalt({ prompts }: GenerateCall, tenant: string | null): GenerateCall['prompts'] {
    if (!this.#keys.hasTenants || tenant === null) return prompts;
    return prompts.map((options) => ({
      ...options,
      cacheSalt: options.cacheSalt === undefined ? tenant : `${tenant}:${options.cacheSalt}`,
    }));
  }
}

function withAdapter(prompts: GenerateCall['prompts'], adapter: string | null): GenerateCall['prompts'] {
  return adapter === null ? prompts : prompts.map((options) => ({ ...options, adapter }));
}
