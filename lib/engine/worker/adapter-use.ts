import { AutoglmError } from '../../errors';

interface Use {
  numRequests: number;
  /** Called when the last request has gone, once the adapter takes no more. */
  onUnused: (() => void) | null;
}

/** Which of a model's adapters are loaded, and how many requests use each, from their arrival to their end. */
export class AdapterUse {
  readonly #uses = new Map<number, Use>();

  add(adapter: number): void {
    this.#uses.set(adapter, { numRequests: 0, onUnused: null });
  }

  /** Throws `model_not_found` when the adapter takes no requests: it is closing or was never there. */
  enter(adapter: number): void {
    if (adapter === 0) return;
    const use = this.#uses.get(adapter);
    if (use === undefined || use.onUnused !== null) {
      throw new AutoglmError('model_not_found', 'the adapter was closed before the request arrived');
    }
    use.numRequests += 1;
  }

  leave(adapter: number): void {
    const use = this.#uses.get(adapter);
    if (use === undefined) return;
    use.numRequests -= 1;
    if (use.numRequests === 0) use.onUnused?.();
  }

  /** Takes no more requests and resolves when those there are have ended. */
  async retire(adapter: number): Promise<void> {
    const use = this.#uses.get(adapter);
    if (use === undefined) return;
    if (use.numRequests > 0) {
      await new Promise<void>((resolve) => {
        use.onUnused = resolve;
      });
    }
    this.#uses.delete(adapter);
  }

  /** The model closes: whoever waits for the end of requests is let go. */
  clear(): void {
    for (const { onUnused } of this.#uses.values()) onUnused?.();
    this.#uses.clear();
  }

  get numRequests(): ReadonlyMap<number, number> {
    const counts = new Map<number, number>();
    for (const [adapter, { numRequests }] of this.#uses)
      if (numRequests > 0) counts.set(adapter, numRequests);
    return counts;
  }
}
