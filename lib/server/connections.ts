import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

interface Unanswered {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly gone: AbortController;
}

/**
 * Tells each request when its connection ends. Node reports that on the response only for the one being sent, so a
 * request pipelined behind it would be computed for nobody.
 */
export class Connections {
  readonly #unanswered = new WeakMap<Duplex, Set<Unanswered>>();
  readonly #maxPipelined: number;

  constructor(server: Server, maxPipelined: number) {
    this.#maxPipelined = maxPipelined;
    server.on('connection', (socket) => {
      const requests = new Set<Unanswered>();
      this.#unanswered.set(socket, requests);
      socket.once('close', () => {
        for (const { gone } of requests) gone.abort();
      });
    });
  }

  /** Aborts when the connection ends before the answer; null when the connection has been cut for asking too much. */
  track(incoming: IncomingMessage, outgoing: ServerResponse): AbortSignal | null {
    const requests = this.#unanswered.get(incoming.socket);
    const gone = new AbortController();
    if (requests === undefined || incoming.socket.destroyed) {
      gone.abort();
      return gone.signal;
    }
    if (requests.size >= this.#maxPipelined) {
      incoming.socket.destroy();
      return null;
    }
    const request = { incoming, outgoing, gone };
    requests.add(request);
    outgoing.once('finish', () => requests.delete(request));
    return gone.signal;
  }

  /** Whether a refusal written now would be read as the answer to the request that broke the protocol. */
  canRefuse(socket: Duplex): boolean {
    const requests = [...(this.#unanswered.get(socket) ?? [])];
    return (
      requests.length <= 1 &&
      requests.every(({ incoming, outgoing }) => !incoming.complete && !outgoing.headersSent)
    );
  }
}
