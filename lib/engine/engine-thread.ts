import { join } from 'node:path';
import { type MessagePort, Worker } from 'node:worker_threads';
import { AutoglmError, reviveError } from '../errors';
import type { BinaryInfo, Logger } from './types';
import type {
  DeviceSettings,
  EngineAnswers,
  EngineCommand,
  EngineReport,
  EngineWorkerData,
} from './worker/protocol';

type Started = Extract<EngineReport, { type: 'started' }>;

export type ModelReport = Extract<EngineReport, { readonly model: number }>;

/** Who hears of one model, on the main thread. */
export interface ModelListener {
  report(report: ModelReport): void;
  /** The engine worker died or was closed: nothing more will come. */
  lost(error: AutoglmError): void;
}

interface PendingCall {
  readonly resolve: (value: EngineAnswers[keyof EngineAnswers]) => void;
  readonly reject: (error: AutoglmError) => void;
}

type Unnumbered<T> = T extends { readonly call: number } ? Omit<T, 'call'> : never;
type Call = Unnumbered<EngineCommand>;

/** A share of the 20 ms that a turn of the host's event loop may cost: the readers' own work comes on top. */
const MAX_TURN_MS = 5;

const crowded = ({ threads, numCores }: Started): string =>
  `${threads} compute threads share the ${numCores} processors this process may use, and wait for each other; ` +
  `at most ${numCores} are faster`;

/**
 * The engine worker as the main thread sees it. The worker keeps the process alive only while someone holds it: a
 * script ends by itself when nothing is awaited.
 */
export class EngineThread {
  readonly binary: BinaryInfo;
  readonly threads: number;
  readonly #worker: Worker;
  readonly #logger: Logger;
  readonly #listeners = new Map<number, ModelListener>();
  readonly #calls = new Map<number, PendingCall>();
  #numCalls = 0;
  #numHolds = 0;
  #lost: AutoglmError | null = null;
  /** Reports that arrived when this turn of the event loop had done its share, oldest first. */
  #backlog: EngineReport[] = [];
  /** When this turn's first report was taken; null before that. */
  #turnBegan: number | null = null;

  private constructor(worker: Worker, started: Started, logger: Logger) {
    this.#worker = worker;
    this.#logger = logger;
    this.binary = started.binary;
    this.threads = started.threads;
    if (started.threads > started.numCores) logger({ level: 'warn', text: crowded(started) });
    worker.on('message', (report: EngineReport) => this.#receive(report));
    worker.unref(); // after the listener: adding it takes a reference
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', (code) => this.#fail(new Error(`the engine worker exited with code ${code}`)));
  }

  /** Rejects with what the loader says, e.g. `no_binary`. */
  static start(device: DeviceSettings, threads: number | null, logger: Logger): Promise<EngineThread> {
    const workerData: EngineWorkerData = { device, threads };
    // Flags of the host (loaders, inspectors) are not for this thread.
    const worker = new Worker(join(__dirname, 'worker', 'main.js'), { workerData, execArgv: [] });
    return new Promise((resolve, reject) => {
      const fail = (cause: unknown): void => {
        reject(
          new AutoglmError('engine_failed', `the engine worker did not start: ${String(cause)}`, { cause }),
        );
      };
      worker.once('error', fail);
      worker.once('exit', fail);
      worker.once('message', (report: EngineReport) => {
        worker.off('error', fail).off('exit', fail);
        if (report.type === 'started') {
          resolve(new EngineThread(worker, report, logger));
          return;
        }
        void worker.terminate();
        if (report.type === 'startFailed') reject(reviveError(report.error));
        else fail(`it began with ${report.type}`);
      });
    });
  }

  /** Why the worker has gone, or null while it lives. */
  get lost(): AutoglmError | null {
    return this.#lost;
  }

  listen(model: number, listener: ModelListener): void {
    this.#listeners.set(model, listener);
  }

  forget(model: number): void {
    this.#listeners.delete(model);
  }

  /** Keeps the process alive until `release`. */
  hold(): void {
    this.#numHolds += 1;
    if (this.#numHolds === 1 && this.#lost === null) this.#worker.ref();
  }

  release(): void {
    this.#numHolds -= 1;
    if (this.#numHolds === 0 && this.#lost === null) this.#worker.unref();
  }

  post(command: EngineCommand, transfer: readonly (ArrayBuffer | MessagePort)[] = []): void {
    if (this.#lost === null) this.#worker.postMessage(command, transfer);
  }

  async call<C extends Call>(command: C): Promise<EngineAnswers[C['type']]> {
    if (this.#lost !== null) throw this.#lost;
    this.#numCalls += 1;
    const call = this.#numCalls;
    this.hold();
    try {
      const answer = await new Promise<EngineAnswers[keyof EngineAnswers]>((resolve, reject) => {
        this.#calls.set(call, { resolve, reject });
        this.post({ ...command, call } as unknown as EngineCommand);
      });
      return answer as EngineAnswers[C['type']]; // the worker answers each command with its own kind
    } finally {
      this.#calls.delete(call);
      this.release();
    }
  }

  /** Ends the native threads, then the worker. */
  async close(): Promise<void> {
    if (this.#lost !== null) return;
    try {
      await this.call({ type: 'close' });
    } catch (error) {
      if (this.#lost === null) throw error;
    }
    this.#lose(new AutoglmError('engine_closed', 'the engine is closed'));
    await this.#worker.terminate();
  }

  /** A main thread that was busy finds many reports at once; they are spread over several turns. */
  #receive(report: EngineReport): void {
    if (this.#turnBegan === null) {
      this.#turnBegan = performance.now();
      setImmediate(() => this.#nextTurn());
    }
    if (this.#backlog.length > 0 || performance.now() - this.#turnBegan > MAX_TURN_MS)
      this.#backlog.push(report);
    else this.#handle(report);
  }

  #nextTurn(): void {
    this.#turnBegan = null;
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const report of backlog) this.#receive(report);
  }

  #handle(report: EngineReport): void {
    switch (report.type) {
      case 'answer':
        this.#calls.get(report.call)?.resolve(report.value);
        return;
      case 'refusal':
        this.#calls.get(report.call)?.reject(reviveError(report.error));
        return;
      case 'log':
        this.#logger(report.record);
        return;
      case 'started':
      case 'startFailed':
        return;
      default:
        this.#listeners.get(report.model)?.report(report);
    }
  }

  #fail(cause: unknown): void {
    if (this.#lost !== null) return;
    const message = cause instanceof Error ? cause.message : String(cause);
    const error = new AutoglmError('engine_failed', `the engine worker failed: ${message}`, {
      hint: 'Create a new engine; this one cannot go on.',
      cause,
      retryable: false,
    });
    this.#logger({ level: 'error', text: error.message });
    this.#lose(error);
  }

  #lose(error: AutoglmError): void {
    this.#lost = error;
    for (const { reject } of this.#calls.values()) reject(error);
    for (const listener of [...this.#listeners.values()]) listener.lost(error);
    this.#listeners.clear();
  }
}
