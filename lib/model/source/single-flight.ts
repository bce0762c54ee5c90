import { AutoglmError } from '../../errors';
import { throwIfAborted } from '../byte-source';
import type { DownloadProgress } from './source-types';

interface Flight<T> {
  readonly promise: Promise<T>;
  readonly controller: AbortController;
  readonly listeners: Set<(progress: DownloadProgress) => void>;
  numCallers: number;
}

export type FlightBody<T> = (
  signal: AbortSignal,
  onProgress: (progress: DownloadProgress) => void,
) => Promise<T>;

/**
 * Runs one body per key at a time in this process; callers that come meanwhile share it and its progress. A caller that
 * aborts leaves alone; the last one takes the body with it, and leaves only when it has ended.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>();

  async run(
    key: string,
    signal: AbortSignal | undefined,
    onProgress: (progress: DownloadProgress) => void,
    body: FlightBody<T>,
  ): Promise<T> {
    throwIfAborted(signal);
    const flight = this.#flights.get(key) ?? this.#start(key, body);
    flight.numCallers += 1;
    flight.listeners.add(onProgress);
    let onAbort: (() => void) | undefined;
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => {
        const error = new AutoglmError('aborted', 'the load was aborted', { cause: signal?.reason });
        if (flight.numCallers > 1) return reject(error);
        this.#flights.delete(key);
        flight.controller.abort(error);
        flight.promise.then(
          () => reject(error),
          () => reject(error),
        );
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return await Promise.race([aborted, flight.promise]);
    } finally {
      flight.numCallers -= 1;
      flight.listeners.delete(onProgress);
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
    }
  }

  #start(key: string, body: FlightBody<T>): Flight<T> {
    const controller = new AbortController();
    const listeners = new Set<(progress: DownloadProgress) => void>();
    const promise = body(controller.signal, (progress) => {
      for (const listener of listeners) listener(progress);
    });
    const flight: Flight<T> = { promise, controller, listeners, numCallers: 0 };
    this.#flights.set(key, flight);
    const forget = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    promise.then(forget, forget);
    return flight;
  }
}
