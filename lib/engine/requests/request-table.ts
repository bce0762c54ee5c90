import { AutoglmError } from '../../errors';
import type { EngineThread, ModelListener, ModelReport } from '../engine-thread';
import { type DeltaSink, readDeltas } from '../worker/deltas';
import type { RequestMessage } from '../worker/protocol';

interface Entry {
  sink: DeltaSink;
  isHolding: boolean;
}

/**
 * A model's requests from submission until their slot is free. Holds the engine worker for each one that makes progress.
 * Invariant: an entry goes away exactly once, with the request's last delta or with the worker.
 */
export class RequestTable implements ModelListener {
  readonly #thread: EngineThread;
  readonly #model: number;
  readonly #entries = new Map<number, Entry>();
  #numRequests = 0;

  constructor(thread: EngineThread, model: number) {
    this.#thread = thread;
    this.#model = model;
  }

  get size(): number {
    return this.#entries.size;
  }

  submit(request: Omit<RequestMessage, 'id'>, sink: DeltaSink): number {
    this.#numRequests += 1;
    const id = this.#numRequests;
    this.#entries.set(id, { sink: this.#guarded(id, sink), isHolding: true });
    this.#thread.hold();
    this.#thread.post({ type: 'add', model: this.#model, request: { id, ...request } }, [
      request.tokens.buffer as ArrayBuffer,
    ]);
    return id;
  }

  /** The request's sink hears `aborted` once its row and pages are back, unless it ends otherwise before that. */
  abort(id: number): void {
    if (this.#entries.has(id)) this.#thread.post({ type: 'abort', model: this.#model, id });
  }

  /** Aborts a request whose caller has its answer already. */
  abandon(id: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.abort(id);
    entry.sink = this.#guarded(id, null);
  }

  credit(id: number, credit: number): void {
    if (this.#entries.has(id)) this.#thread.post({ type: 'credit', model: this.#model, id, credit });
  }

  /** A request that waits for its reader does not keep the process alive. */
  setHolding(id: number, isHolding: boolean): void {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.isHolding === isHolding) return;
    entry.isHolding = isHolding;
    if (isHolding) this.#thread.hold();
    else this.#thread.release();
  }

  report(report: ModelReport): void {
    if (report.type === 'deltas') readDeltas(report, (id) => this.#entries.get(id)?.sink);
  }

  lost(error: AutoglmError): void {
    this.failAll(error);
  }

  failAll(error: AutoglmError): void {
    for (const { sink } of [...this.#entries.values()]) sink.failed(0, error);
  }

  #remove(id: number): void {
    this.setHolding(id, false);
    this.#entries.delete(id);
  }

  /**
   * Removes the entry before the last delta is told, so that the one who hears it finds the slot free. Null when nobody
   * wants to hear of the request any more. A sink that throws costs its own request, not the message's others.
   */
  #guarded(id: number, sink: DeltaSink | null): DeltaSink {
    const ending = (tell: () => void): void => {
      this.#remove(id);
      tell();
    };
    return {
      started: (at, cachedTokens) => sink?.started(at, cachedTokens),
      token: (at, token, logprobs) => {
        try {
          sink?.token(at, token, logprobs);
        } catch (error) {
          this.abandon(id);
          sink?.failed(
            at,
            AutoglmError.is(error) ? error : new AutoglmError('internal', String(error), { cause: error }),
          );
        }
      },
      drafted: (numDrafted, numAccepted) => sink?.drafted(numDrafted, numAccepted),
      finished: (at, reason) => ending(() => sink?.finished(at, reason)),
      evaluated: (at, values) => ending(() => sink?.evaluated(at, values)),
      aborted: (at) => ending(() => sink?.aborted(at)),
      failed: (at, error) => ending(() => sink?.failed(at, error)),
    };
  }
}
