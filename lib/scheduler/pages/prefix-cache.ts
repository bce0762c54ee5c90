import { Limits } from '../../native/abi';
import type { RequestState } from '../request-state';
import type { PageId } from '../types';
import { chainKey, type PageKey, rootKey } from './page-keys';
import type { PagePool } from './page-pool';

/** Cached pages at the head of a sequence. */
export interface PrefixMatch {
  readonly pages: readonly PageId[];
  /** How many of them nobody owns now: sharing them takes them from the available pages. */
  readonly numIdle: number;
}

const NO_MATCH: PrefixMatch = { pages: [], numIdle: 0 };

/**
 * Finds computed pages again by what they hold. A page becomes findable when the result of the step that filled it has
 * been applied, never earlier. Keys are made once per page and kept with the request.
 */
export class PrefixCache {
  readonly #pool: PagePool;

  constructor(pool: PagePool) {
    this.#pool = pool;
  }

  /** Longest run of cached full pages at the head of the history, leaving at least one token to compute. */
  match(request: RequestState): PrefixMatch {
    if (!request.sharesPrefix) return NO_MATCH;
    const numUsable = Math.floor((request.numTokens - 1) / Limits.pageSize);
    const pages: PageId[] = [];
    let numIdle = 0;
    while (pages.length < numUsable) {
      const page = this.#pool.find(this.#keyAt(request, pages.length));
      if (page === null) break;
      if (this.#pool.refCount(page) === 0) numIdle += 1;
      pages.push(page);
    }
    return { pages, numIdle };
  }

  /**
   * True when a step in flight, or the one being planned, computes the page that `request` misses first: one step later
   * it may be found instead of computed twice.
   */
  isBeingComputed(request: RequestState, numMatched: number, running: readonly RequestState[]): boolean {
    const start = numMatched * Limits.pageSize;
    const end = start + Limits.pageSize;
    if (!request.sharesPrefix || end >= request.numTokens) return false;
    const key = this.#keyAt(request, numMatched);
    return running.some(
      (other) =>
        other.sharesPrefix &&
        other.numTokens >= end &&
        Math.max(other.numComputed, start) < Math.min(other.numPlanned + other.planCount, end) &&
        this.#keyAt(other, numMatched) === key,
    );
  }

  /** Makes the request's pages findable that are full and computed. */
  publish(request: RequestState): void {
    if (!request.sharesPrefix) return;
    const numFull = Math.floor(request.numComputed / Limits.pageSize);
    for (; request.numPublishedPages < numFull; request.numPublishedPages += 1) {
      const index = request.numPublishedPages;
      this.#pool.publish(request.pages[index] as PageId, this.#keyAt(request, index));
    }
  }

  #keyAt(request: RequestState, index: number): PageKey {
    const { pageKeys } = request;
    while (pageKeys.length <= index) {
      const parent = pageKeys.at(-1) ?? rootKey(request.salt);
      pageKeys.push(chainKey(parent, request.tokens, pageKeys.length * Limits.pageSize));
    }
    return pageKeys[index] as PageKey;
  }
}
