import { refuse } from '../http-errors';
import { hostOf } from './hosts';

/**
 * Which web pages may call this server: its own, and those of configured origins. Programs send no Origin header and
 * are not concerned.
 */
export class CorsPolicy {
  readonly #origins: ReadonlySet<string>;

  constructor(origins: readonly string[]) {
    this.#origins = new Set(origins);
  }

  /** Headers that let the page behind `origin` read the answer; throws for a page that may not call at all. */
  headersFor(origin: string | undefined, host: string): Readonly<Record<string, string>> {
    if (origin === undefined) return {};
    const name = origin.toLowerCase();
    if (this.#origins.has(name))
      return {
        'access-control-allow-origin': origin,
        'access-control-expose-headers': 'x-request-id, retry-after',
        vary: 'origin',
      };
    if (isSameHost(name, host)) return {};
    throw refuse('forbidden_origin', 'web pages of this origin may not call this server', {
      where: 'header origin',
      found: name.slice(0, 128),
      allowed: [...this.#origins].join(', ') || 'its own page',
    });
  }

  /** What a preflight request of a configured origin learns: it may send any header, as clients add their own. */
  preflightHeaders(requestedHeaders: string | undefined): Readonly<Record<string, string>> {
    return {
      'access-control-allow-methods': 'GET, POST',
      'access-control-allow-headers': requestedHeaders ?? 'authorization, content-type',
      'access-control-max-age': '600',
    };
  }
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

function isSameHost(origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false;
  const url = new URL(origin);
  const name = hostOf(host);
  if (name === null) return false;
  const port = /:(\d+)$/.exec(host)?.[1] ?? DEFAULT_PORTS[url.protocol];
  return hostOf(url.host) === name && (url.port || DEFAULT_PORTS[url.protocol]) === port;
}
