import { isIP } from 'node:net';

/**
 * Which Host values this server answers to. DNS rebinding needs a name the attacker owns, so IP addresses it is bound
 * to and localhost names pass, and every other name must be configured.
 */
export class HostAllowList {
  readonly #names: ReadonlySet<string>;
  readonly #boundAddress: string | null;
  readonly #isWildcard: boolean;

  /** `bound` is the address or name of the listening socket, or null when another host owns it. */
  constructor(bound: string | null, names: readonly string[]) {
    const address = bound === null ? null : canonicalAddress(bound);
    this.#boundAddress = address;
    // A wildcard socket is reached under addresses it cannot know, such as those of a port forward.
    this.#isWildcard = address === '0.0.0.0' || address === '::';
    this.#names = new Set(
      [...names, ...(bound !== null && address === null ? [bound] : [])].map((name) => name.toLowerCase()),
    );
  }

  /** Takes a Host header, with or without a port. */
  allows(hostHeader: string): boolean {
    const host = hostOf(hostHeader);
    if (host === null) return false;
    if (isLoopbackHost(host)) return true;
    const address = canonicalAddress(host);
    if (address !== null)
      return this.#isWildcard || address === this.#boundAddress || this.#names.has(address);
    return this.#names.has(host);
  }
}

/** The host of `host[:port]` in lower case, IPv6 without brackets; null when it is malformed. */
export function hostOf(hostHeader: string): string | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?$/i.exec(hostHeader);
  if (match === null) return null;
  const [, bracketed, plain, port] = match;
  if (port !== undefined && Number(port) > 65_535) return null;
  if (bracketed !== undefined) return isIP(bracketed) === 6 ? bracketed.toLowerCase() : null;
  return plain?.toLowerCase() ?? null;
}

/** Localhost names and addresses that never leave the machine. */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase();
  if (name === 'localhost' || name.endsWith('.localhost')) return true;
  const address = canonicalAddress(name);
  return (
    address !== null && (address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:7f'))
  );
}

/** One spelling per address: IPv6 compressed and in lower case. Null for a name. */
function canonicalAddress(host: string): string | null {
  const version = isIP(host);
  if (version === 0) return null;
  if (version === 4) return host;
  return new URL(`http://[${host.split('%')[0]}]/`).hostname.slice(1, -1);
}
