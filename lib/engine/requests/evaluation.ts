import { AutoglmError } from '../../errors';
import { monotonicMs } from '../clock';
import type { DeltaSink } from '../worker/deltas';
import type { RequestSettings, SamplingSettings } from '../worker/protocol';
import type { RequestTable } from './request-table';

export interface EvaluationRequest {
  /** RequestKind `logits`, `score` or `pool`. */
  readonly kind: number;
  readonly tokens: Int32Array;
  /** Ascending and without repeats; only for `logits`. */
  readonly positions: Int32Array;
  /** Floats that come back. */
  readonly outputLength: number;
  /** Pooling in lib/native/abi.ts; only for `pool`. */
  readonly pooling: number;
  /** Tokens from this index on have token type 1; 0 for none. */
  readonly secondSegment: number;
  readonly priority: number;
  /** On the clock of `monotonicMs`; null for none. */
  readonly deadline: number | null;
  /** Number of the adapter, 0 for none. */
  readonly adapter: number;
  readonly signal: AbortSignal | null;
}

/** Of an evaluation that is nothing special. */
export const PLAIN_EVALUATION = { pooling: 0, secondSegment: 0, priority: 0, deadline: null } as const;

/** Nothing is sampled, so the settings only have to be valid. */
const NO_SAMPLING: SamplingSettings = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
};

/** Runs a request whose result is an array of numbers. An abort rejects when the request's slot is free. */
export function evaluate(requests: RequestTable, request: EvaluationRequest): Promise<Float32Array> {
  const {
    kind,
    tokens,
    positions,
    outputLength,
    pooling,
    secondSegment,
    adapter,
    priority,
    deadline,
    signal,
  } = request;
  const settings: RequestSettings = {
    kind,
    maxTokens: 0,
    sampling: NO_SAMPLING,
    numLogprobs: -1,
    stopTokens: new Int32Array(0),
    biasTokens: new Int32Array(0),
    biasValues: new Float32Array(0),
    positions,
    pooling,
    secondSegment,
    speculation: null,
  };
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(aborted(signal));
      return;
    }
    const onAbort = (): void => requests.abort(id);
    const leave = (): void => signal?.removeEventListener('abort', onAbort);
    const sink: DeltaSink = {
      started: () => {},
      token: () => {},
      drafted: () => {},
      finished: () =>
        sink.failed(monotonicMs(), new AutoglmError('internal', 'an evaluation generated tokens')),
      evaluated(_at, values) {
        leave();
        if (signal?.aborted) reject(aborted(signal));
        else resolve(values);
      },
      aborted() {
        leave();
        reject(aborted(signal));
      },
      failed(_at, error) {
        leave();
        reject(error);
      },
    };
    const id = requests.submit(
      { tokens, settings, outputLength, priority, deadline, salt: '', adapter, credit: 0 },
      sink,
    );
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function aborted(signal: AbortSignal | null): AutoglmError {
  return new AutoglmError(
    'aborted',
    'the evaluation was aborted',
    signal === null ? {} : { cause: signal.reason },
  );
}
