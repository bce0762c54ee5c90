import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Tells each request when its connection ends. Node reports that on the response only for the one being sent, so a
 * request pipelined behind it would be computed for nobody.
 */
export class Connections {
  readonly #unanswered = new WeakMap<Socket, Set<AbortController>>();
  readonly #maxPipelined: number;

  constructor(server: Server, maxPipelined: number) {
    this.#maxPipelined = maxPipelined;
    server.on('connection', (socket) => {
      const controllers = new Set<AbortController>();
      this.#unanswered.set(socket, controllers);
      socket.once('close', () => {
        for (const controller of controllers) controller.abort();
      });
    });
  }

  /** Aborts when the connection ends before the answer; null when the connection has been cut for asking too much. */
  track(incoming: IncomingMessage, outgoing: ServerResponse): AbortSignal | null {
    const controllers = this.#unanswered.get(incoming.socket);
    const controller = new AbortController();
    if (controllers === undefined || incoming.socket.destroyed) {
      controller.abort();
      return controller.signal;
    }
    if (controllers.size >= this.#maxPipelined) {
      incoming.socket.destroy();
      return null;
    }
    controllers.add(controller);
    outgoing.once('finish', () => controllers.delete(controller));
    return controller.signal;
  }
}
