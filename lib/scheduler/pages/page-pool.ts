import { AutoglmError } from '../../errors';
import type { PageId } from '../types';
import type { PageKey } from './page-keys';

/**
 * Decides who owns which KV page. Bookkeeping only: the memory belongs to the native pool.
 * Invariant: a page is owned (refCount > 0), or cached (no owner, has a key, in the idle list), or free (no owner, no
 * key, on the stack), and exactly one of these.
 */
export class PagePool {
  readonly numPages: number;
  readonly #refCounts: Uint32Array;
  readonly #keys: (PageKey | null)[];
  readonly #pageOfKey = new Map<PageKey, PageId>();
  readonly #freeStack: Int32Array;
  #numFree: number;
  // Idle cached pages, a ring through `numPages` as its head: the oldest follows the head, the newest precedes it.
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  #numCached = 0;

  constructor(numPages: number) {
    this.numPages = numPages;
    this.#refCounts = new Uint32Array(numPages);
    this.#keys = new Array<PageKey | null>(numPages).fill(null);
    this.#freeStack = Int32Array.from({ length: numPages }, (_, i) => numPages - 1 - i);
    this.#numFree = numPages;
    this.#next = new Int32Array(numPages + 1).fill(numPages);
    this.#previous = new Int32Array(numPages + 1).fill(numPages);
  }

  get numFree(): number {
    return this.#numFree;
  }

  /** Pages nobody owns whose content can still be found. */
  get numCached(): number {
    return this.#numCached;
  }

  /** Pages that `tryAllocate` can hand out. */
  get numAvailable(): number {
    return this.#numFree + this.#numCached;
  }

  /** Takes a page for one owner, or null. Only when no free page is left does the longest idle cached one lose its key. */
  tryAllocate(): PageId | null {
    let page: PageId;
    if (this.#numFree > 0) {
      this.#numFree -= 1;
      page = this.#freeStack[this.#numFree] as PageId;
    } else if (this.#numCached > 0) {
      page = this.#next[this.numPages] as PageId;
      this.#unlink(page);
      this.#pageOfKey.delete(this.#keys[page] as PageKey);
      this.#keys[page] = null;
    } else {
      return null;
    }
    this.#refCounts[page] = 1;
    return page;
  }

  /** Adds an owner to a page found by its key. */
  share(page: PageId): void {
    const owners = this.refCount(page);
    if (owners === 0) {
      if (this.#keys[page] === null) throw new AutoglmError('internal', `free page ${page} cannot be shared`);
      this.#unlink(page);
    }
    this.#refCounts[page] = owners + 1;
  }

  /** Drops one owner. After the last one the page is free, or idle but findable when it has a key. */
  release(page: PageId): void {
    const owners = this.refCount(page);
    if (owners === 0) throw new AutoglmError('internal', `page ${page} was released but has no owner`);
    this.#refCounts[page] = owners - 1;
    if (owners > 1) return;
    if (this.#keys[page] === null) {
      this.#freeStack[this.#numFree] = page;
      this.#numFree += 1;
    } else {
      this.#linkAsNewest(page);
    }
  }

  /** Makes an owned page findable. Another page with the same content keeps the key. */
  publish(page: PageId, key: PageKey): void {
    if (this.refCount(page) === 0)
      throw new AutoglmError('internal', `page ${page} was published but has no owner`);
    if (this.#keys[page] !== null || this.#pageOfKey.has(key)) return;
    this.#keys[page] = key;
    this.#pageOfKey.set(key, page);
  }

  /** The page with this content, or null. */
  find(key: PageKey): PageId | null {
    const page = this.#pageOfKey.get(key);
    return page === undefined || this.#keys[page] !== key ? null : page;
  }

  refCount(page: PageId): number {
    return this.#refCounts[page] ?? 0;
  }

  keyOf(page: PageId): PageKey | null {
    return this.#keys[page] ?? null;
  }

  /** Throws unless each page is owned, cached or free, exactly once. */
  checkInvariants(): void {
    const seen = new Uint8Array(this.numPages);
    const visit = (page: number, list: string, hasKey: boolean) => {
      if (seen[page] !== 0 || this.#refCounts[page] !== 0 || (this.#keys[page] !== null) !== hasKey) {
        const found = `seen ${seen[page]}, owners ${this.#refCounts[page]}, key ${this.#keys[page] !== null}`;
        throw new AutoglmError('internal', `page ${page} in the ${list} list is not ${list}: ${found}`);
      }
      seen[page] = 1;
    };
    for (let i = 0; i < this.#numFree; i += 1) visit(this.#freeStack[i] as number, 'free', false);
    let numIdle = 0;
    for (
      let page = this.#next[this.numPages] as number;
      page !== this.numPages;
      page = this.#next[page] as number
    ) {
      visit(page, 'cached', true);
      numIdle += 1;
    }
    let numKeys = 0;
    let numOwned = 0;
    for (let page = 0; page < this.numPages; page += 1) {
      const key = this.#keys[page] ?? null;
      if (key !== null) numKeys += 1;
      if (key !== null && this.#pageOfKey.get(key) !== page) {
        throw new AutoglmError(
          'internal',
          `page ${page} has a key that finds page ${this.#pageOfKey.get(key)}`,
        );
      }
      if (seen[page] === 0) numOwned += this.#refCounts[page] === 0 ? 0 : 1;
    }
    const total = this.#numFree + numIdle + numOwned;
    if (total !== this.numPages || numIdle !== this.#numCached || numKeys !== this.#pageOfKey.size) {
      const found = `free ${this.#numFree}, idle ${numIdle} (counted ${this.#numCached}), owned ${numOwned}`;
      const keys = `${numKeys} keys on pages, ${this.#pageOfKey.size} in the index`;
      throw new AutoglmError('internal', `pages do not add up to ${this.numPages}: ${found}; ${keys}`);
    }
  }

  #linkAsNewest(page: PageId): void {
    const newest = this.#previous[this.numPages] as number;
    this.#next[newest] = page;
    this.#previous[page] = newest;
    this.#next[page] = this.numPages;
    this.#previous[this.numPages] = page;
    this.#numCached += 1;
  }

  #unlink(page: PageId): void {
    const next = this.#next[page] as number;
    const previous = this.#previous[page] as number;
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#numCached -= 1;
  }
}
