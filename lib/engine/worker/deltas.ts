import { type AutoglmError, reviveError, serializeError } from '../../errors';
import type { DeltaMessage } from './protocol';
import type { LogprobRecord } from './step-result';

/** First word of a delta record; the second is the request's id, further ones as noted. */
const Delta = {
  /** cached tokens */
  started: 0,
  /** token */
  token: 1,
  /** token, number of alternatives, their ids; the log-probabilities lie in the float array in the same order */
  tokenWithLogprobs: 2,
  stopped: 3,
  reachedLength: 4,
  evaluated: 5,
  aborted: 6,
  /** guesses, right ones */
  drafted: 7,
} as const;

/** Collects what happened to a model's requests into one message. */
export class DeltaWriter {
  #words = new Int32Array(256);
  #numWords = 0;
  #logprobs: number[] = [];
  #failures: DeltaMessage['failures'][number][] = [];
  #outputs: DeltaMessage['outputs'][number][] = [];

  started(id: number, cachedTokens: number): void {
    this.#push(Delta.started, id);
    this.#push(cachedTokens);
  }

  token(id: number, token: number, logprobs: LogprobRecord | null): void {
    if (logprobs === null) {
      this.#push(Delta.token, id);
      this.#push(token);
      return;
    }
    this.#push(Delta.tokenWithLogprobs, id);
    this.#push(token, logprobs.topTokens.length);
    for (const other of logprobs.topTokens) this.#push(other);
    this.#logprobs.push(logprobs.logprob, ...logprobs.topLogprobs);
  }

  drafted(id: number, numDrafted: number, numAccepted: number): void {
    this.#push(Delta.drafted, id);
    this.#push(numDrafted, numAccepted);
  }

  finished(id: number, reason: 'stop' | 'length'): void {
    this.#push(reason === 'stop' ? Delta.stopped : Delta.reachedLength, id);
  }

  evaluated(id: number, values: Float32Array): void {
    this.#outputs.push({ id, values });
    this.#push(Delta.evaluated, id);
  }

  aborted(id: number): void {
    this.#push(Delta.aborted, id);
  }

  failed(id: number, error: unknown): void {
    this.#failures.push({ id, error: serializeError(error) });
  }

  /** The message and the buffers to transfer with it, or null when nothing happened. */
  take(model: number, at: number): { message: DeltaMessage; transfer: ArrayBuffer[] } | null {
    if (this.#numWords === 0 && this.#failures.length === 0) return null;
    const words = this.#words.slice(0, this.#numWords);
    const logprobs = Float32Array.from(this.#logprobs);
    const message: DeltaMessage = {
      type: 'deltas',
      model,
      at,
      words,
      logprobs,
      failures: this.#failures,
      outputs: this.#outputs,
    };
    const transfer = [words.buffer, logprobs.buffer, ...this.#outputs.map(({ values }) => values.buffer)];
    this.#numWords = 0;
    this.#logprobs = [];
    this.#failures = [];
    this.#outputs = [];
    return { message, transfer: transfer as ArrayBuffer[] };
  }

  /** One word or two: a list of any length would be one more object for every token. */
  #push(first: number, second?: number): void {
    if (this.#numWords + 2 > this.#words.length) {
      const grown = new Int32Array(2 * this.#words.length);
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[this.#numWords] = first;
    this.#numWords += 1;
    if (second === undefined) return;
    this.#words[this.#numWords] = second;
    this.#numWords += 1;
  }
}

/** Where the deltas of one request go. Each request ends with exactly one of the last four calls. */
export interface DeltaSink {
  started(at: number, cachedTokens: number): void;
  token(at: number, token: number, logprobs: LogprobRecord | null): void;
  drafted(numDrafted: number, numAccepted: number): void;
  finished(at: number, reason: 'stop' | 'length'): void;
  evaluated(at: number, values: Float32Array): void;
  aborted(at: number): void;
  failed(at: number, error: AutoglmError): void;
}

/** Hands each record of a message to its request, in order. Requests that `sinkOf` does not know have gone. */
export function readDeltas(message: DeltaMessage, sinkOf: (id: number) => DeltaSink | undefined): void {
  const { at, words, logprobs } = message;
  let numLogprobs = 0;
  for (let i = 0; i < words.length; ) {
    const kind = words[i];
    const id = words[i + 1] ?? 0;
    const value = words[i + 2] ?? 0;
    const sink = sinkOf(id);
    i += 2;
    if (kind === Delta.started) {
      sink?.started(at, value);
      i += 1;
    } else if (kind === Delta.token) {
      sink?.token(at, value, null);
      i += 1;
    } else if (kind === Delta.tokenWithLogprobs) {
      const numTop = words[i + 1] ?? 0;
      const topTokens = words.subarray(i + 2, i + 2 + numTop);
      const topLogprobs = logprobs.subarray(numLogprobs + 1, numLogprobs + 1 + numTop);
      sink?.token(at, value, { logprob: logprobs[numLogprobs] ?? Number.NaN, topTokens, topLogprobs });
      numLogprobs += 1 + numTop;
      i += 2 + numTop;
    } else if (kind === Delta.drafted) {
      sink?.drafted(value, words[i + 1] ?? 0);
      i += 2;
    } else if (kind === Delta.evaluated) {
      const values = message.outputs.find((output) => output.id === id)?.values ?? new Float32Array(0);
      sink?.evaluated(at, values);
    } else if (kind === Delta.aborted) {
      sink?.aborted(at);
    } else {
      sink?.finished(at, kind === Delta.stopped ? 'stop' : 'length');
    }
  }
  for (const { id, error } of message.failures) sinkOf(id)?.failed(at, reviveError(error));
}
