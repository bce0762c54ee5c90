import { createHash, timingSafeEqual } from 'node:crypto';

const digestOf = (key: string): Buffer => createHash('sha256').update(key).digest();

/** The keys clients may present. Only digests are kept, and each is compared in constant time. */
export class ApiKeys {
  readonly #digests: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digestOf);
  }

  get isRequired(): boolean {
    return this.#digests.length > 0;
  }

  /** Several keys stand for several tenants, whose prompts must not share a prefix cache. */
  get hasTenants(): boolean {
    return this.#digests.length > 1;
  }

  /** A short name of the key in `Bearer KEY` that reveals nothing of it, or null when no configured key was given. */
  tenantOf(authorization: string | undefined): string | null {
    const key = /^Bearer +([\x21-\x7e]+)$/i.exec(authorization ?? '')?.[1];
    if (key === undefined) return null;
    const given = digestOf(key);
    let isKnown = false;
    for (const digest of this.#digests) isKnown = timingSafeEqual(digest, given) || isKnown;
    return isKnown ? given.toString('hex').slice(0, 16) : null;
  }
}
