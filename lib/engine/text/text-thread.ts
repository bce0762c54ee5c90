import { join } from 'node:path';
import { type ResourceLimits, type Transferable, Worker } from 'node:worker_threads';
import { type AutoglmError, reviveError } from '../../errors';
import type { WorkerReply } from './protocol';

export interface TextThreadOptions {
  /** File beside this one. */
  readonly file: string;
  readonly resourceLimits?: ResourceLimits;
  /** What a pending call rejects with when the thread ends by itself. */
  readonly crashed: (cause: unknown) => AutoglmError;
}

export interface CallOptions {
  readonly transfer?: readonly Transferable[];
  /** Called once the thread works on the call. */
  readonly onBegan?: () => void;
}

interface PendingCall {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: AutoglmError) => void;
  readonly onBegan: (() => void) | undefined;
}

/**
 * A worker thread with numbered calls. It is started by the first call, and by the next one after it has ended for any
 * reason. It keeps the process alive only while calls are pending.
 */
export class TextThread {
  readonly #options: TextThreadOptions;
  readonly #pending = new Map<number, PendingCall>();
  #worker: Worker | null = null;
  #numStarts = 0;
  #numCalls = 0;

  constructor(options: TextThreadOptions) {
    this.#options = options;
  }

  /** Changes with each start: what an earlier thread was told is lost. 0 before the first. */
  get generation(): number {
    return this.#numStarts;
  }

  get isRunning(): boolean {
    return this.#worker !== null;
  }

  start(): void {
    if (this.#worker !== null) return;
    const { file, resourceLimits } = this.#options;
    // Flags of the host (loaders, inspectors) are not for this thread.
    const worker = new Worker(join(__dirname, file), {
      execArgv: [],
      ...(resourceLimits === undefined ? {} : { resourceLimits }),
    });
    let cause: unknown = null;
    worker.on('message', (reply: WorkerReply) => this.#receive(reply));
    worker.unref(); // after the listener: adding it takes a reference
    worker.on('error', (error) => {
      cause = error;
    });
    worker.on('exit', (code) => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      this.#rejectAll(this.#options.crashed(cause ?? new Error(`the thread exited with code ${code}`)));
    });
    this.#worker = worker;
    this.#numStarts += 1;
  }

  /** `makeCommand` gets the call's number. */
  call(
    makeCommand: (call: number) => object,
    { transfer = [], onBegan }: CallOptions = {},
  ): Promise<unknown> {
    this.start();
    this.#numCalls += 1;
    const call = this.#numCalls;
    const command = makeCommand(call);
    return new Promise((resolve, reject) => {
      // Throws when the command holds what cannot be posted: nothing is pending then.
      this.#worker?.postMessage(command, transfer);
      if (this.#pending.size === 0) this.#worker?.ref();
      this.#pending.set(call, { resolve, reject, onBegan });
    });
  }

  /** A message without a reply. Does not start the thread. */
  notify(notice: object): void {
    this.#worker?.postMessage(notice);
  }

  /** Ends the thread at once; pending calls reject with `error`. */
  async terminate(error: AutoglmError): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    this.#rejectAll(error);
    await worker?.terminate();
  }

  #receive(reply: WorkerReply): void {
    const pending = this.#pending.get(reply.call);
    if (pending === undefined) return;
    if (reply.type === 'began') {
      pending.onBegan?.();
      return;
    }
    this.#pending.delete(reply.call);
    if (this.#pending.size === 0) this.#worker?.unref();
    if (reply.type === 'done') pending.resolve(reply.value);
    else pending.reject(reviveError(reply.error));
  }

  #rejectAll(error: AutoglmError): void {
    const calls = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of calls) reject(error);
  }
}
