import type { Logger, Usage } from '../engine/types';
import { AutoglmError } from '../errors';

/** What is written of an answer's tokens. */
export type LoggedUsage = Pick<Usage, 'promptTokens' | 'completionTokens' | 'cachedTokens'>;

/** What one request came to: numbers and names, never text, keys or addresses. Written once, when its answer ended. */
export class AccessRecord {
  readonly startedAt = performance.now();
  readonly #logger: Logger;
  #model: string | null = null;
  #usage: LoggedUsage | null = null;
  #error: unknown = null;

  constructor(
    logger: Logger,
    readonly requestId: string,
    readonly method: string,
  ) {
    this.#logger = logger;
  }

  /** The answer goes on after its headers: whoever streams it writes the record. */
  isStreaming = false;

  setModel(model: string): void {
    this.#model = model;
  }

  setUsage(usage: LoggedUsage | null): void {
    this.#usage = usage;
  }

  /**
   * False when this error was known already. One that is not ours is a fault of the server: the log is where its cause
   * can be found.
   */
  setError(error: unknown): boolean {
    if (this.#error === error) return false;
    this.#error = error;
    if (AutoglmError.is(error) && error.code !== 'internal') return true;
    const cause = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#logger({ level: 'error', text: 'request failed', fields: { request_id: this.requestId, cause } });
    return true;
  }

  get elapsedMs(): number {
    return performance.now() - this.startedAt;
  }

  write(route: string, status: number): void {
    this.#logger({
      level: 'info',
      text: 'request',
      fields: {
        request_id: this.requestId,
        method: this.method,
        route,
        status,
        duration_ms: Math.round(this.elapsedMs),
        ...(this.#model === null ? {} : { model: this.#model }),
        ...(this.#usage === null
          ? {}
          : {
              prompt_tokens: this.#usage.promptTokens,
              cached_tokens: this.#usage.cachedTokens,
              completion_tokens: this.#usage.completionTokens,
            }),
        ...(this.#error === null
          ? {}
          : { error: AutoglmError.is(this.#error) ? this.#error.code : 'internal' }),
      },
    });
  }
}
