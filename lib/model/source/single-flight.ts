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
    flight.listeners.add(onProgress);
    flight.numCallers += 1;
    let leave: (() => void) | undefined;
    const left = new Promise<never>((_, reject) => {
      leave = () => {
        const error = new AutoglmError('aborted', 'the load was aborted', { cause: signal?.reason });
        flight.numCallers -= 1;
        if (flight.numCallers > 0) return reject(error);
        this.#flights.delete(key);
        flight.controller.abort(error);
        flight.promise.then(
          () => reject(error),
          () => reject(error),
        );
      };
      signal?.addEventListener('abort', leave, { once: true });
    });
    try {
      return await Promise.race([left, flight.promise]);
    } finally {
      flight.listeners.delete(onProgress);
      if (leave !== undefined) signal?.removeEventListener('abort', leave);
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
