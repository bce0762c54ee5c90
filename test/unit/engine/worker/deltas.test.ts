import { describe, expect, test } from 'vitest';
import { type DeltaSink, DeltaWriter, readDeltas } from '../../../../lib/engine/worker/deltas';
import type { DeltaMessage } from '../../../../lib/engine/worker/protocol';
import { ResultBuffer } from '../../../../lib/engine/worker/step-result';
import { AutoglmError } from '../../../../lib/errors';
import { Limits, ResultHeader, ResultRow } from '../../../../lib/native/abi';
import type { StepPlan } from '../../../../lib/scheduler/types';

function recorder(): { heard: unknown[]; sinkOf: (id: number) => DeltaSink } {
  const heard: unknown[] = [];
  const sinkOf = (id: number): DeltaSink => ({
    started: (at, cachedTokens) => heard.push([id, 'started', at, cachedTokens]),
    token: (_at, token, logprobs) => heard.push([id, 'token', token, logprobs]),
    drafted: (numDrafted, numAccepted) => heard.push([id, 'drafted', numDrafted, numAccepted]),
    finished: (_at, reason) => heard.push([id, 'finished', reason]),
    evaluated: (_at, values) => heard.push([id, 'evaluated', [...values]]),
    aborted: () => heard.push([id, 'aborted']),
    failed: (_at, error) => heard.push([id, 'failed', error.code, error.message]),
  });
  return { heard, sinkOf };
}

/** As it arrives on the other side of a message port. */
function posted(writer: DeltaWriter): DeltaMessage {
  const taken = writer.take(3, 17);
  if (taken === null) throw new Error('nothing to post');
  return structuredClone(taken.message, { transfer: taken.transfer });
}

describe('the deltas of a step', () => {
  test('reach each request in order, with log-probabilities and failures', () => {
    const writer = new DeltaWriter();
    writer.started(1, 48);
    writer.token(1, 500, null);
    writer.token(2, 600, {
      logprob: -0.5,
      topTokens: Int32Array.of(600, 601),
      topLogprobs: Float32Array.of(-0.5, -1.5),
    });
    writer.token(3, 700, { logprob: -2, topTokens: new Int32Array(0), topLogprobs: new Float32Array(0) });
    writer.drafted(3, 8, 5);
    writer.finished(1, 'length');
    writer.finished(2, 'stop');
    writer.evaluated(4, Float32Array.of(1, 2, 3));
    writer.aborted(5);
    writer.failed(6, new AutoglmError('kv_exhausted', 'no pages'));
    const message = posted(writer);
    expect(message.model).toBe(3);
    const { heard, sinkOf } = recorder();
    readDeltas(message, sinkOf);
    expect(heard).toEqual([
      [1, 'started', 17, 48],
      [1, 'token', 500, null],
      [
        2,
        'token',
        600,
        { logprob: -0.5, topTokens: Int32Array.of(600, 601), topLogprobs: Float32Array.of(-0.5, -1.5) },
      ],
      [3, 'token', 700, { logprob: -2, topTokens: new Int32Array(0), topLogprobs: new Float32Array(0) }],
      [3, 'drafted', 8, 5],
      [1, 'finished', 'length'],
      [2, 'finished', 'stop'],
      [4, 'evaluated', [1, 2, 3]],
      [5, 'aborted'],
      [6, 'failed', 'kv_exhausted', 'no pages'],
    ]);
  });

  test('are one message each, none when nothing happened, and nothing of the last one stays', () => {
    const writer = new DeltaWriter();
    expect(writer.take(1, 0)).toBeNull();
    writer.token(1, 5, null);
    expect(posted(writer).words).toHaveLength(3);
    expect(writer.take(1, 0)).toBeNull();
  });

  test('may be as many as a thousand rows with twenty alternatives each', () => {
    const writer = new DeltaWriter();
    const topTokens = Int32Array.from({ length: Limits.maxLogprobs }, (_, i) => i);
    const topLogprobs = Float32Array.from(topTokens, (i) => -i);
    for (let id = 0; id < 1000; id += 1) writer.token(id, id + 7, { logprob: -id, topTokens, topLogprobs });
    const { heard, sinkOf } = recorder();
    readDeltas(posted(writer), sinkOf);
    expect(heard).toHaveLength(1000);
    expect(heard[999]).toEqual([999, 'token', 1006, { logprob: -999, topTokens, topLogprobs }]);
  });

  test('for a request that has gone are passed over', () => {
    const writer = new DeltaWriter();
    writer.token(1, 5, { logprob: -1, topTokens: Int32Array.of(5), topLogprobs: Float32Array.of(-1) });
    writer.token(2, 6, { logprob: -2, topTokens: Int32Array.of(6), topLogprobs: Float32Array.of(-2) });
    const { heard, sinkOf } = recorder();
    readDeltas(posted(writer), (id) => (id === 2 ? sinkOf(id) : undefined));
    expect(heard).toEqual([
      [2, 'token', 6, { logprob: -2, topTokens: Int32Array.of(6), topLogprobs: Float32Array.of(-2) }],
    ]);
  });
});

describe('a step result', () => {
  test('is read row by row, and a copy keeps its log-probabilities when the slot is written again', () => {
    const result = ResultBuffer.shared(4);
    const { words } = result;
    const floats = new Float32Array(words.buffer as SharedArrayBuffer);
    expect(words).toHaveLength(ResultHeader.numWords + (4 + Limits.maxStepDrafts) * Limits.resultRowWords);
    words.set([7, 0, 5, 1234], 0);
    const row = ResultHeader.numWords + Limits.resultRowWords;
    words.set([2, 5, 1, 42, 0], row);
    floats[row + ResultRow.logprob] = -0.25;
    words[row + ResultRow.numTop] = 2;
    words.set([42, 43], row + ResultRow.tops);
    floats.set([-0.25, -1.25], row + ResultRow.tops + Limits.maxLogprobs);
    words.set([2, 5, 1, 44, 1], row + Limits.resultRowWords);
    words.set([2, 5, 0, -1, 0], row + 2 * Limits.resultRowWords);
    words.set([3, 6, 1, 45, 2], row + 3 * Limits.resultRowWords);
    const entries = [[], [44, 50], []].map((drafts) => ({ drafts: Int32Array.from(drafts) }));
    expect(result.read({ entries } as unknown as StepPlan)).toEqual({
      step: 7,
      entries: [
        { row: 0, generation: 0, token: -1, further: [], finish: 0 },
        { row: 2, generation: 5, token: 42, further: [44], finish: 1 },
        { row: 3, generation: 6, token: 45, further: [], finish: 2 },
      ],
    });
    const copy = result.copy();
    words.fill(0);
    expect(copy.logprobs(1)).toEqual({
      logprob: -0.25,
      topTokens: Int32Array.of(42, 43),
      topLogprobs: Float32Array.of(-0.25, -1.25),
    });
  });
});
