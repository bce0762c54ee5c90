import { describe, expect, test } from 'vitest';
import { type AdmittedRequest, PlanBuffer } from '../../../../lib/engine/worker/plan-writer';
import type { RequestSettings } from '../../../../lib/engine/worker/protocol';
import {
  Admission,
  Entry,
  EntryFlags,
  PageUpdate,
  PlanHeader,
  RequestKind,
} from '../../../../lib/native/abi';
import type { PageId, RequestId, StepPlan } from '../../../../lib/scheduler/types';

const settings: RequestSettings = {
  kind: RequestKind.generate,
  maxTokens: 99,
  sampling: {
    temperature: 0.7,
    topK: 40,
    topP: 0.9,
    minP: 0.05,
    repetitionPenalty: 1.1,
    presencePenalty: -0.5,
    frequencyPenalty: 0.25,
    seed: 2 ** 53 - 1,
  },
  numLogprobs: 3,
  stopTokens: Int32Array.of(2, 7),
  biasTokens: Int32Array.of(5, 6),
  biasValues: Float32Array.of(-100, 2.5),
  positions: new Int32Array(0),
  pooling: 1,
  secondSegment: 2,
  speculation: null,
};
const evaluation: RequestSettings = {
  ...settings,
  kind: RequestKind.logits,
  stopTokens: new Int32Array(0),
  biasTokens: new Int32Array(0),
  biasValues: new Float32Array(0),
  positions: Int32Array.of(0, 2),
};
const requests: Record<number, AdmittedRequest> = {
  1: { settings, numPromptTokens: 3, ropeTable: 0, adapter: 3, outputId: 0 },
  2: { settings: evaluation, numPromptTokens: 3, ropeTable: 1, adapter: 3, outputId: 2 },
};
const requestOf = (id: number): AdmittedRequest => requests[id] as AdmittedRequest;

const plan: StepPlan = {
  step: 12,
  isDraft: false,
  admissions: [
    { row: 4, generation: 9, id: 1 as RequestId, tokens: Int32Array.of(10, 11, 12, 13) },
    { row: 5, generation: 1, id: 2 as RequestId, tokens: Int32Array.of(20, 21, 22) },
  ],
  pageUpdates: [{ row: 4, index: 0, page: 30 as PageId }],
  entries: [
    {
      row: 4,
      generation: 9,
      id: 1 as RequestId,
      start: 0,
      count: 6,
      samples: true,
      drafts: Int32Array.of(91, 92),
    },
    {
      row: 5,
      generation: 1,
      id: 2 as RequestId,
      start: 0,
      count: 3,
      samples: false,
      drafts: new Int32Array(0),
    },
  ],
};

const float = (words: Int32Array, index: number): number =>
  new Float32Array(words.buffer as SharedArrayBuffer)[index] as number;

describe('a step plan in shared memory', () => {
  test('holds each record where the header says, with everything native needs of a request', () => {
    const buffer = new PlanBuffer(256);
    buffer.write(plan, null, requestOf);
    const { words } = buffer;
    expect(words.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(words[PlanHeader.step]).toBe(12);
    expect(words[PlanHeader.numAdmissions]).toBe(2);
    const first = words[PlanHeader.admissionsOffset] as number;
    const field = (name: keyof typeof Admission): number => words[first + Admission[name]] as number;
    const numWords = Admission.numWords + 4 + 2 + 2 * 2;
    expect(field('words')).toBe(numWords);
    expect([field('row'), field('generation'), field('kind')]).toEqual([4, 9, RequestKind.generate]);
    expect([field('numTokens'), field('numPromptTokens'), field('maxTokens')]).toEqual([4, 3, 99]);
    expect([field('numStopTokens'), field('numLogitBias'), field('numPositions')]).toEqual([2, 2, 0]);
    expect(field('ropeTable')).toBe(0);
    expect(field('adapter')).toBe(3);
    expect([field('topK'), field('numLogprobs'), field('outputId')]).toEqual([40, 3, 0]);
    expect([field('seedLow') >>> 0, field('seedHigh')]).toEqual([2 ** 32 - 1, 2 ** 21 - 1]);
    const floats = [
      'temperature',
      'topP',
      'minP',
      'repetitionPenalty',
      'presencePenalty',
      'frequencyPenalty',
    ] as const;
    expect(floats.map((name) => float(words, first + Admission[name]))).toEqual(
      [0.7, 0.9, 0.05, 1.1, -0.5, 0.25].map(Math.fround),
    );
    const tail = first + Admission.numWords;
    expect([...words.subarray(tail, tail + 6)]).toEqual([10, 11, 12, 13, 2, 7]);
    expect([words[tail + 6], words[tail + 8]]).toEqual([5, 6]);
    expect([float(words, tail + 7), float(words, tail + 9)]).toEqual([-100, 2.5]);

    const second = first + numWords;
    expect(words[second + Admission.outputId]).toBe(2);
    expect(words[second + Admission.numPositions]).toBe(2);
    expect(words[second + Admission.ropeTable]).toBe(1);
    expect(words[second + Admission.pooling]).toBe(1);
    expect(words[second + Admission.secondSegment]).toBe(2);
    const secondTail = second + Admission.numWords;
    expect([...words.subarray(secondTail, secondTail + 5)]).toEqual([20, 21, 22, 0, 2]);
  });

  test('holds entries and page updates, and says where it ends', () => {
    const buffer = new PlanBuffer(256);
    buffer.write(plan, null, requestOf);
    const { words } = buffer;
    const entries = words[PlanHeader.entriesOffset] as number;
    expect(words[PlanHeader.numEntries]).toBe(2);
    expect([...words.subarray(entries, entries + 2 * Entry.numWords)]).toEqual([
      ...[4, 9, 0, 6, EntryFlags.sample, 2],
      ...[5, 1, 0, 3, 0, 0],
    ]);
    const updates = words[PlanHeader.pageUpdatesOffset] as number;
    expect(words[PlanHeader.numPageUpdates]).toBe(1);
    expect([...words.subarray(updates, updates + PageUpdate.numWords)]).toEqual([4, 0, 30]);
    const drafts = words[PlanHeader.draftsOffset] as number;
    expect(drafts).toBe(updates + PageUpdate.numWords);
    expect([...words.subarray(drafts, drafts + 2)]).toEqual([91, 92]);
    expect(words[PlanHeader.totalWords]).toBe(drafts + 2);
  });

  test('says how to cut the work, or leaves it to native', () => {
    const buffer = new PlanBuffer(256);
    buffer.write(plan, { numThreads: 3, chunkPercent: 200 }, requestOf);
    expect(buffer.words[PlanHeader.numThreads]).toBe(3);
    expect(buffer.words[PlanHeader.chunkPercent]).toBe(200);
    buffer.write(plan, null, requestOf);
    expect(buffer.words[PlanHeader.numThreads]).toBe(0);
    expect(buffer.words[PlanHeader.chunkPercent]).toBe(0);
  });

  test('that does not fit is refused with both sizes, wherever it ends', () => {
    const needed = (() => {
      const buffer = new PlanBuffer(256);
      buffer.write(plan, null, requestOf);
      return buffer.words[PlanHeader.totalWords] as number;
    })();
    new PlanBuffer(needed).write(plan, null, requestOf);
    for (const numWords of [needed - 1, needed - 12, 60, 20]) {
      expect(() => new PlanBuffer(numWords).write(plan, null, requestOf)).toThrow(
        expect.objectContaining({ code: 'internal', message: expect.stringContaining(`holds ${numWords}`) }),
      );
    }
  });
});
