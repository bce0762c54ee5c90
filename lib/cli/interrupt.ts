import { EXIT_INTERRUPTED } from './failure';

/**
 * Turns SIGINT and SIGTERM into an abort signal for one command. The first asks the command to stop, which takes at most
 * one step; a second ends the process.
 */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #onSignal = (): void => {
    if (this.#controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
    this.#controller.abort();
  };

  constructor() {
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  stop(): void {
    process.off('SIGINT', this.#onSignal);
    process.off('SIGTERM', this.#onSignal);
  }
}
