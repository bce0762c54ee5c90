const encoder = new TextEncoder();

/** JSON without line breaks of its own is one line of an event. */
const encodeEvent = (data: object): Uint8Array => encoder.encode(`data: ${JSON.stringify(data)}\n\n`);

export interface EventStreamLimits {
  readonly streamBufferBytes: number;
  readonly stallMs: number;
}

export interface EventStreamListeners {
  /** The reader cancelled; events go nowhere from here on. */
  readonly onCancel: () => void;
  /** The reader took nothing for `stallMs` while the buffer was full; the owner should end the stream. */
  readonly onStall: () => void;
}

/**
 * Server-sent events over a body whose reader sets the pace. `send` resolves when there is room for more, so at most
 * `streamBufferBytes` and one event per writer wait in memory.
 */
export class EventStream {
  readonly body: ReadableStream<Uint8Array>;
  readonly #limits: EventStreamLimits;
  readonly #listeners: EventStreamListeners;
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #waiting: (() => void)[] = [];
  #stallTimer: NodeJS.Timeout | null = null;

  constructor(limits: EventStreamLimits, listeners: EventStreamListeners) {
    this.#limits = limits;
    this.#listeners = listeners;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#wake(),
        cancel: () => {
          this.#controller = null;
          this.#wake();
          listeners.onCancel();
        },
      },
      new ByteLengthQueuingStrategy({ highWaterMark: limits.streamBufferBytes }),
    );
  }

  /** One `data:` event. */
  send(data: object): Promise<void> {
    return this.#write(encodeEvent(data));
  }

  /** A comment line, which clients skip and proxies take as a sign of life. */
  comment(text: string): Promise<void> {
    return this.#write(encoder.encode(`: ${text}\n\n`));
  }

  /** Ends an answer that is complete. */
  async finish(): Promise<void> {
    await this.#write(encoder.encode('data: [DONE]\n\n'));
    this.#close();
  }

  /** Ends an answer that is not: the error is the last event, and no [DONE] follows. */
  fail(error: object): void {
    this.#controller?.enqueue(encodeEvent(error));
    this.#close();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#controller === null) return;
    this.#controller.enqueue(bytes);
    if ((this.#controller.desiredSize ?? 0) > 0) return;
    this.#stallTimer ??= setTimeout(this.#listeners.onStall, this.#limits.stallMs);
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    if (this.#stallTimer !== null) clearTimeout(this.#stallTimer);
    this.#stallTimer = null;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #close(): void {
    const controller = this.#controller;
    this.#controller = null;
    this.#wake();
    controller?.close();
  }
}
