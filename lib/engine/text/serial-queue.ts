import { AutoglmError } from '../../errors';

interface Waiting {
  readonly start: () => void;
  readonly reject: (error: AutoglmError) => void;
}

/** Runs asynchronous jobs one after the other, in the order they came. */
export class SerialQueue {
  readonly #waiting: Waiting[] = [];
  #isBusy = false;

  /** Rejects with `aborted` as soon as the signal says so; a job that has begun is finished, unheard. */
  run<Result>(job: () => Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(aborted(signal));
        return;
      }
      const entry: Waiting = {
        start: () => {
          job()
            .then(resolve, reject)
            .finally(() => {
              signal?.removeEventListener('abort', onAbort);
              this.#next();
            });
        },
        reject,
      };
      const onAbort = (): void => {
        const place = this.#waiting.indexOf(entry);
        if (place >= 0) this.#waiting.splice(place, 1);
        reject(aborted(signal));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(entry);
      if (!this.#isBusy) this.#next();
    });
  }

  rejectWaiting(error: AutoglmError): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #next(): void {
    const entry = this.#waiting.shift();
    this.#isBusy = entry !== undefined;
    entry?.start();
  }
}

export function aborted(signal: AbortSignal | undefined): AutoglmError {
  return new AutoglmError('aborted', 'the call was aborted', { cause: signal?.reason });
}
