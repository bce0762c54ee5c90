import { AutoglmError } from '../errors';
import { refuse } from './http-errors';

/** One HTTP request to the API, from its arrival until the last byte of its answer was handed over. */
export class Call {
  readonly startedAt = performance.now();
  readonly #abort = new AbortController();
  readonly #onEnd: (call: Call) => void;
  #unfollow: () => void = () => {};

  constructor(
    readonly requestId: string,
    /** Which API key was used, as a digest; null when the server has none. */
    readonly tenant: string | null,
    onEnd: (call: Call) => void,
  ) {
    this.#onEnd = onEnd;
  }

  /** Ends everything the engine does for this call. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Has no effect after the first time. */
  cancel(reason: unknown): void {
    this.#abort.abort(reason);
  }

  /** The error the client should see: why the call was cancelled, where it was, else what went wrong. */
  reasonFor(error: unknown): unknown {
    return this.signal.aborted ? this.signal.reason : error;
  }

  /** Cancels this call when the client goes away. */
  follow(disconnected: AbortSignal): void {
    const onGone = (): void => this.cancel(new AutoglmError('aborted', 'the client went away'));
    if (disconnected.aborted) onGone();
    disconnected.addEventListener('abort', onGone, { once: true });
    this.#unfollow = () => disconnected.removeEventListener('abort', onGone);
  }

  end(): void {
    this.#unfollow();
    this.#onEnd(this);
  }
}

const shuttingDown = (): AutoglmError =>
  refuse(
    'shutting_down',
    'the server is shutting down; send the request again, to another one if there is any',
  );

/** The calls a server is answering, and whether it still takes new ones. */
export class CallRegistry {
  readonly #calls = new Set<Call>();
  #isDraining = false;
  #onIdle: (() => void) | null = null;

  get isDraining(): boolean {
    return this.#isDraining;
  }

  get size(): number {
    return this.#calls.size;
  }

  /** Milliseconds since the oldest call began, 0 without any. */
  get oldestAgeMs(): number {
    const [oldest] = this.#calls;
    return oldest === undefined ? 0 : performance.now() - oldest.startedAt;
  }

  /** Throws `shutting_down` once draining began. */
  begin(requestId: string, tenant: string | null): Call {
    if (this.#isDraining) throw shuttingDown();
    const call = new Call(requestId, tenant, (ended) => {
      this.#calls.delete(ended);
      if (this.#calls.size === 0) this.#onIdle?.();
    });
    this.#calls.add(call);
    return call;
  }

  /** Takes no new calls; resolves once the running ones ended, cancelling those left after `graceMs`. */
  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true;
    if (this.#calls.size === 0) return;
    const idle = new Promise<void>((resolve) => {
      const before = this.#onIdle;
      this.#onIdle = () => {
        before?.();
        resolve();
      };
    });
    const late = setTimeout(() => {
      for (const call of this.#calls) call.cancel(shuttingDown());
    }, graceMs);
    await idle;
    clearTimeout(late);
  }
}
