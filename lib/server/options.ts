import type { Engine, Logger, Model } from '../engine/types';
import { AutoglmError } from '../errors';
import { isLoopbackHost } from './guard/hosts';

/** Every bound of the server. Sizes in bytes, times in milliseconds. */
export interface ServerLimits {
  /** Request body. */
  readonly bodyBytes: number;
  /** Nested JSON arrays and objects. */
  readonly jsonDepth: number;
  /** JSON values in a body. */
  readonly jsonElements: number;
  /** All request headers together. */
  readonly headerBytes: number;
  /** Messages of one chat request. */
  readonly messages: number;
  /** `n` of a request. */
  readonly choices: number;
  /** Prompts of one completion request. */
  readonly prompts: number;
  readonly headerWaitMs: number;
  readonly bodyWaitMs: number;
  /** A keep-alive connection without a request. */
  readonly idleMs: number;
  /** A reader that takes nothing for this long is cut off. */
  readonly stallMs: number;
  /** Unread bytes kept per stream before the generation is paused. */
  readonly streamBufferBytes: number;
  readonly connections: number;
  /** Unanswered pipelined requests on one connection. */
  readonly pipelinedRequests: number;
  /** Work without a finished step for this long makes /health answer 503. */
  readonly stepAgeMs: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  bodyBytes: 8 * 1024 * 1024,
  jsonDepth: 64,
  jsonElements: 100_000,
  headerBytes: 16 * 1024,
  // Checking one takes some microseconds of the main thread.
  messages: 4_096,
  choices: 8,
  prompts: 32,
  headerWaitMs: 10_000,
  bodyWaitMs: 30_000,
  idleMs: 15_000,
  stallMs: 60_000,
  streamBufferBytes: 256 * 1024,
  connections: 10_000,
  pipelinedRequests: 32,
  // A step of 512 prompt tokens of a large model takes tens of seconds on a small machine.
  stepAgeMs: 60_000,
};

export interface FetchHandlerOptions {
  /** Accepted as `Authorization: Bearer KEY`. Without any, only requests for a loopback host are served. */
  readonly apiKeys?: readonly string[];
  /** Host names clients may use besides localhost and IP addresses; a wall against DNS rebinding. */
  readonly allowedHosts?: readonly string[];
  /** Origins of web pages that may call this server, as in `https://app.example`. Default: none but its own page. */
  readonly corsOrigins?: readonly string[];
  /** The chat page at `/`. Default true. */
  readonly page?: boolean;
  /** Gets one record per request and the cause of each failure, never prompts, keys or addresses. */
  readonly logger?: Logger;
  readonly limits?: Partial<ServerLimits>;
}

export interface ServeOptions extends FetchHandlerOptions {
  /** Address to bind. Default 127.0.0.1; any address other machines can reach needs `apiKeys`. */
  readonly host?: string;
  /** Default 8080; 0 takes a free one. */
  readonly port?: number;
  /** Milliseconds that running answers may take once `close()` was called. Default 30,000. */
  readonly graceMs?: number;
}

/** An engine serves all of its models, also those loaded later; a list serves just these. */
export type ServedModels = Engine | { readonly engine: Engine; readonly models: readonly Model[] };

export interface ServerSettings {
  readonly host: string | null;
  readonly apiKeys: readonly string[];
  readonly allowedHosts: readonly string[];
  readonly corsOrigins: readonly string[];
  readonly hasPage: boolean;
  readonly logger: Logger;
  readonly limits: ServerLimits;
}

const invalid = (parameter: string, message: string, hint?: string): AutoglmError =>
  new AutoglmError('invalid_parameter', message, {
    details: { path: parameter },
    ...(hint === undefined ? {} : { hint }),
  });

function checkLimits(given: Partial<ServerLimits>): ServerLimits {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(DEFAULT_LIMITS, name))
      throw invalid(
        `limits.${name}`,
        `limits.${name} is not a limit of the server`,
        `Known limits are ${Object.keys(DEFAULT_LIMITS).join(', ')}.`,
      );
    if (!Number.isSafeInteger(value) || value < 1)
      throw invalid(
        `limits.${name}`,
        `expected limits.${name} to be a positive integer, got ${String(value)}`,
      );
  }
  return { ...DEFAULT_LIMITS, ...given };
}

function checkOrigin(origin: string): string {
  const url = URL.canParse(origin) ? new URL(origin) : null;
  if (url === null || (url.origin !== 'null' && url.origin !== origin.toLowerCase()))
    throw invalid(
      'corsOrigins',
      `expected an origin such as "https://app.example" in corsOrigins, got "${origin}"`,
    );
  return origin.toLowerCase();
}

/** A logger that throws costs nobody an answer. */
function isolate(logger: Logger | undefined): Logger {
  if (logger === undefined) return () => {};
  return (record) => {
    try {
      logger(record);
    } catch {
      // There is nowhere left to report it to.
    }
  };
}

/** Fills in the defaults; `host` null means that somebody else owns the socket. */
export function parseSettings(options: FetchHandlerOptions, host: string | null): ServerSettings {
  const apiKeys = options.apiKeys ?? [];
  // What fits into a header value without quoting; the length keeps the header block within its own limit.
  if (apiKeys.some((key) => !/^[\x21-\x7e]{1,1024}$/.test(key)))
    throw invalid('apiKeys', 'expected each API key to be 1..1024 printable ASCII characters without spaces');
  if (host !== null && apiKeys.length === 0 && !isLoopbackHost(host))
    throw invalid(
      'apiKeys',
      `refusing to listen on ${host} without an API key: every machine that reaches it could use the models`,
      'Set apiKeys, or bind 127.0.0.1.',
    );
  return {
    host,
    apiKeys,
    allowedHosts: options.allowedHosts ?? [],
    corsOrigins: (options.corsOrigins ?? []).map(checkOrigin),
    hasPage: options.page ?? true,
    logger: isolate(options.logger),
    limits: checkLimits(options.limits ?? {}),
  };
}
