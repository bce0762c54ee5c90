import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { AutoglmError } from '../errors';
import { ServerApp } from './app';
import { Connections } from './connections';
import { isLoopbackHost } from './guard/hosts';
import { refuse, toHttpFailure } from './http-errors';
import {
  type FetchHandlerOptions,
  parseSettings,
  type ServedModels,
  type ServeOptions,
  type ServerLimits,
  type ServerSettings,
} from './options';

const DEFAULT_HOST = '127.0.0.1';
const DEFAULT_PORT = 8080;
const DEFAULT_GRACE_MS = 30_000;
/** What sockets get to take the last bytes of an answer once all answers ended. */
const FLUSH_MS = 2_000;
const SWEEP_MS = 20;

export interface RunningServer {
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /**
   * Stops: /health and new requests answer 503, running answers have `graceMs` to end and then get a typed error, and
   * the socket closes. A second call shortens the wait to its own `graceMs`. The engine stays open.
   */
  close(options?: { readonly graceMs?: number }): Promise<void>;
}

/**
 * The same routes as `serve`, for a host that owns the socket (Bun, Deno, Next.js, Electron). Socket limits and draining
 * are the host's business; auth, Host allow-list, body and field limits are not.
 */
export function createFetchHandler(
  served: ServedModels,
  options: FetchHandlerOptions = {},
): (request: Request) => Promise<Response> {
  const app = new ServerApp(served, parseSettings(options, null));
  return (request) => app.fetch(request);
}

/** Listens on a port. Rejects with `invalid_parameter` for a port in use or a public address without an API key. */
export async function serve(served: ServedModels, options: ServeOptions = {}): Promise<RunningServer> {
  const { host = DEFAULT_HOST, port = DEFAULT_PORT, graceMs = DEFAULT_GRACE_MS, ...rest } = options;
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new AutoglmError(
      'invalid_parameter',
      `expected port to be an integer in 0..65535, got ${String(port)}`,
      {
        details: { path: 'port' },
      },
    );
  const settings = parseSettings(rest, host);
  const app = new ServerApp(served, settings);
  const server = createHttpServer(app, settings);
  await listen(server, host, port);
  const address = server.address() as AddressInfo;
  let closed: Promise<void> | null = null;
  const shownHost = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${isLoopbackHost(host) ? shownHost : urlHost(host)}:${address.port}`,
    host,
    port: address.port,
    close: async (closing) => {
      await app.calls.drain(closing?.graceMs ?? graceMs);
      closed ??= closeSockets(server);
      await closed;
    },
  };
}

const urlHost = (host: string): string => (host.includes(':') ? `[${host}]` : host);

function createHttpServer(app: ServerApp, settings: ServerSettings): Server {
  const { limits } = settings;
  const server = createServer({
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headerWaitMs,
    // The body reader has its own deadline with a better answer; this one catches requests nobody reads.
    requestTimeout: limits.headerWaitMs + limits.bodyWaitMs,
    keepAliveTimeout: limits.idleMs,
    connectionsCheckingInterval: Math.min(1_000, limits.headerWaitMs),
  });
  server.maxConnections = limits.connections;
  const connections = new Connections(server, limits.pipelinedRequests);
  const listeners = new WeakMap<IncomingMessage, AbortSignal>();
  const listener = getRequestListener(
    async (request, { incoming, outgoing }) => {
      const disconnected = listeners.get(incoming as IncomingMessage);
      const response = await app.fetch(request, disconnected === undefined ? {} : { disconnected });
      // From here on bytes should move: a reader that takes none for this long is cut off.
      (outgoing as ServerResponse).socket?.setTimeout(limits.stallMs);
      return response;
    },
    { overrideGlobalObjects: false, hostname: 'localhost', errorHandler: (error) => badTarget(error) },
  );
  server.on('request', (incoming, outgoing) => {
    const disconnected = connections.track(incoming, outgoing);
    if (disconnected === null) return;
    listeners.set(incoming, disconnected);
    void listener(incoming, outgoing);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (socket.writable && connections.canRefuse(socket))
      socket.end(rawAnswer(rawRefusal(error.code, limits)));
    else socket.destroy();
  });
  return server;
}

/** A request target or Host header that makes no URL never reaches the app. */
function badTarget(error: unknown): Response {
  const reason = error instanceof Error ? error.message : 'unreadable';
  const { status, body } = toHttpFailure(
    refuse('malformed_request', `the request target or Host header is malformed: ${reason}`, {
      where: 'request line',
    }),
    'none',
  );
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } });
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
};

/** What Node's HTTP parser refused never becomes a request: it is answered in the API's own shape, byte by byte. */
function rawAnswer(error: AutoglmError): string {
  const { status, body } = toHttpFailure(error, 'none');
  const text = JSON.stringify(body);
  return [
    `HTTP/1.1 ${status} ${REASONS[status]}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
    '',
    text,
  ].join('\r\n');
}

function rawRefusal(code: string | undefined, limits: ServerLimits): AutoglmError {
  if (code === 'HPE_HEADER_OVERFLOW')
    return refuse('headers_too_large', `expected headers of at most ${limits.headerBytes} bytes`, {
      where: 'headers',
      allowed: `at most ${limits.headerBytes} bytes`,
    });
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return refuse('request_timeout', `the request did not arrive within ${limits.headerWaitMs} ms`, {
      where: 'headers',
    });
  return refuse('malformed_request', `the request is not valid HTTP/1.1 (${code ?? 'unknown'})`, {
    where: 'request',
  });
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      reject(
        new AutoglmError(
          'invalid_parameter',
          `cannot listen on ${host} port ${port}: ${error.code ?? error.message}`,
          {
            details: { path: error.code === 'EADDRINUSE' ? 'port' : 'host' },
            cause: error,
            ...(error.code === 'EADDRINUSE'
              ? { hint: 'Another program uses the port: choose another, or 0 for a free one.' }
              : {}),
          },
        ),
      );
    };
    server.once('error', onError);
    server.listen(port, host, () => {
      server.off('error', onError);
      resolve();
    });
  });
}

/** Closes the socket, giving connections a moment to take the last bytes of their answers. */
async function closeSockets(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // A connection becomes idle only when the last byte of its answer has left.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
  const late = setTimeout(() => server.closeAllConnections(), FLUSH_MS);
  await closed;
  clearInterval(sweep);
  clearTimeout(late);
}
