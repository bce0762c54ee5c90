import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { AutoglmError } from '../../../errors';
import { throwIfAborted } from '../../byte-source';

/** Milliseconds. */
export interface HttpTimeouts {
  /** Name look-up, TCP and TLS. Short, because on many machines only one of several sources can be reached. */
  readonly connect: number;
  /** From the connection to the response head. */
  readonly head: number;
  /** Without a byte of the body. */
  readonly idle: number;
}

export const HTTP_TIMEOUTS: HttpTimeouts = { connect: 3_000, head: 10_000, idle: 30_000 };

export interface HttpRequest {
  readonly url: string;
  readonly method: 'GET' | 'HEAD';
  readonly headers: Readonly<Record<string, string>>;
  /** Sent to the origin of `url` and to no other, whatever is redirected. */
  readonly authorization: string | null;
  /** `same-origin` gives back a redirect that leads elsewhere instead of following it. */
  readonly redirects: 'follow' | 'same-origin';
  readonly timeouts: HttpTimeouts;
  readonly signal: AbortSignal | undefined;
}

const MAX_REDIRECTS = 10;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * Sends a request and gives the response head; the body is read from the message, which must be consumed or destroyed.
 * Failures of the connection are `download_failed` with `details.phase`.
 */
export async function sendRequest(request: HttpRequest): Promise<IncomingMessage> {
  const origin = new URL(request.url).origin;
  let url = new URL(request.url);
  for (let numRedirects = 0; ; numRedirects += 1) {
    const response = await sendFresh(url, request, url.origin === origin ? request.authorization : null);
    const location = response.headers.location;
    if (!REDIRECTS.has(response.statusCode ?? 0) || location === undefined) return response;
    const next = nextAddress(url, location);
    if (request.redirects === 'same-origin' && next.origin !== url.origin) return response;
    response.resume();
    if (numRedirects === MAX_REDIRECTS) {
      throw new AutoglmError('download_failed', `${url.host}: more than ${MAX_REDIRECTS} redirects`);
    }
    url = next;
  }
}

function nextAddress(url: URL, location: string): URL {
  let next: URL;
  try {
    next = new URL(location, url);
  } catch (error) {
    throw new AutoglmError('download_failed', `${url.host}: redirects to something that is no address`, {
      cause: error,
    });
  }
  const isAllowed = next.protocol === 'https:' || (next.protocol === 'http:' && url.protocol === 'http:');
  if (isAllowed) return next;
  throw new AutoglmError(
    'download_failed',
    `${url.host}: redirects from ${url.protocol} to ${next.protocol}`,
    {
      hint: 'A redirect may not leave https.',
      retryable: false,
    },
  );
}

/** Sends again when a kept-alive connection turns out to have been closed by the server in the meantime. */
async function sendFresh(
  url: URL,
  request: HttpRequest,
  authorization: string | null,
): Promise<IncomingMessage> {
  for (;;) {
    try {
      return await sendOnce(url, request, authorization);
    } catch (error) {
      if (!AutoglmError.is(error) || error.details.wasReused !== true) throw error;
    }
  }
}

function sendOnce(url: URL, request: HttpRequest, authorization: string | null): Promise<IncomingMessage> {
  const { method, timeouts, signal } = request;
  throwIfAborted(signal);
  const headers: Record<string, string> = {
    'user-agent': 'open-autoglm',
    // Sizes, ranges and hashes are those of the bytes as stored.
    'accept-encoding': 'identity',
    ...request.headers,
  };
  if (authorization !== null) headers.authorization = authorization;
  return new Promise((resolve, reject) => {
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const outgoing = send(url, { method, headers, ...(signal === undefined ? {} : { signal }) });
    let phase: 'connect' | 'head' = 'connect';
    const expire = (): void => {
      const limit = phase === 'connect' ? timeouts.connect : timeouts.head;
      outgoing.destroy(Object.assign(new Error(`no answer in ${limit} ms`), { code: 'ETIMEDOUT' }));
    };
    let timer = setTimeout(expire, timeouts.connect);
    const connected = (): void => {
      if (phase === 'head') return;
      phase = 'head';
      clearTimeout(timer);
      timer = setTimeout(expire, timeouts.head);
    };
    outgoing.once('socket', (socket) => {
      const ready = url.protocol === 'https:' ? 'secureConnect' : 'connect';
      if (socket.connecting) socket.once(ready, connected);
      else connected();
    });
    outgoing.once('response', (response) => {
      clearTimeout(timer);
      response.setTimeout(timeouts.idle, () =>
        response.destroy(Object.assign(new Error(`no byte in ${timeouts.idle} ms`), { code: 'ETIMEDOUT' })),
      );
      resolve(response);
    });
    outgoing.once('error', (error) => {
      clearTimeout(timer);
      const { code } = error as NodeJS.ErrnoException;
      const wasReused = outgoing.reusedSocket && (code === 'ECONNRESET' || code === 'EPIPE');
      reject(signal?.aborted ? abortedError(signal) : connectionError(url.host, phase, error, wasReused));
    });
    outgoing.end();
  });
}

function abortedError(signal: AbortSignal): AutoglmError {
  return new AutoglmError('aborted', 'the load was aborted', { cause: signal.reason });
}

const REASONS: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the name cannot be resolved',
  EAI_AGAIN: 'the name cannot be resolved',
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection was cut',
  ENETUNREACH: 'the network cannot be reached',
  EHOSTUNREACH: 'the host cannot be reached',
};

/** `phase` says how far the request got: what never connected is not tried again. */
export function connectionError(
  host: string,
  phase: 'connect' | 'head' | 'body',
  error: NodeJS.ErrnoException,
  wasReused = false,
): AutoglmError {
  // A happy-eyeballs failure carries one error per address and no code of its own.
  const inner = error instanceof AggregateError ? (error.errors[0] as NodeJS.ErrnoException) : error;
  const code = inner.code ?? 'unknown';
  return new AutoglmError('download_failed', `${host}: ${REASONS[code] ?? inner.message} (${code})`, {
    hint: 'Check the network and its proxy settings; HF_ENDPOINT names a mirror of Hugging Face.',
    details: { host, phase, found: code, wasReused },
    cause: error,
  });
}

/** The whole body as text; more than `maxBytes` is `download_failed`. */
export async function readText(response: IncomingMessage, host: string, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > maxBytes) {
        throw new AutoglmError('download_failed', `${host}: the answer exceeds ${maxBytes} bytes`);
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw AutoglmError.is(error) ? error : connectionError(host, 'body', error as NodeJS.ErrnoException);
  }
  return Buffer.concat(chunks).toString('utf8');
}
