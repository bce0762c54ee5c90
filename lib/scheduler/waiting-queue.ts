import { AutoglmError } from '../errors';
import type { RequestState } from './request-state';

/**
 * Requests without a row, best rank first. A rank is fixed at arrival: since all waiting requests age at the same pace,
 * aging never changes their order, and a request outranks all that arrive late enough.
 */
export class WaitingQueue {
  readonly #requests: RequestState[] = [];

  get length(): number {
    return this.#requests.length;
  }

  /** Tokens of all of them. Summed anew: a preempted request may still receive a token from a step in flight. */
  get numTokens(): number {
    return this.#requests.reduce((sum, request) => sum + request.numTokens, 0);
  }

  /** In rank order. Not to be changed while iterated over. */
  get requests(): readonly RequestState[] {
    return this.#requests;
  }

  insert(request: RequestState): void {
    let low = 0;
    let high = this.#requests.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#requests[middle] as RequestState).outranks(request)) low = middle + 1;
      else high = middle;
    }
    this.#requests.splice(low, 0, request);
  }

  remove(request: RequestState): void {
    const index = this.#requests.indexOf(request);
    if (index < 0) throw new AutoglmError('internal', `request ${request.id} does not wait`);
    this.#requests.splice(index, 1);
  }
}
