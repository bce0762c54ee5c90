import { afterAll, beforeAll, expect, test } from 'vitest';
import { readDeltas } from '../../../../lib/engine/worker/deltas';
import type { NativeModel } from '../../../../lib/engine/worker/model-loading';
import { ModelRunner } from '../../../../lib/engine/worker/model-runner';
import { PlanBuffer } from '../../../../lib/engine/worker/plan-writer';
import type { EngineReport, RequestMessage } from '../../../../lib/engine/worker/protocol';
import { ResultBuffer } from '../../../../lib/engine/worker/step-result';
import { Limits, RequestKind, ResultHeader, ResultRow } from '../../../../lib/native/abi';
import type { NativeAddon } from '../../../../lib/native/addon';
import { loadAddon } from '../../../../lib/native/loader';
import { Scheduler } from '../../../../lib/scheduler/scheduler';
import { TestModel } from '../../native/step-driver';
import { TinyModel, tinySpec } from '../../native/tiny-model';

// Goal: what native says of a failed step reaches the caller of the request. Method: a runner over the addon is given a token
// that the model does not have, which the main thread would have refused.

const { addon } = loadAddon();
const CONFIG = {
  numPages: 64,
  maxRows: 8,
  maxStepTokens: 128,
  maxChunkTokens: 64,
  splitsInputs: true,
  contextLength: 128,
  maxQueuedRequests: 8,
  maxQueuedTokens: 1024,
  prefixCache: false,
  agingMs: 1000,
  maxPlanWords: 4096,
  draftModel: null,
};

const tiny = new TinyModel(tinySpec());
let runner: ModelRunner;
let hear: (report: EngineReport) => void = () => {};
const engine = addon.createEngine({ threads: 1, isa: null }, (model, slot, hasMore) =>
  runner.stepFinished(model, slot, hasMore),
);

beforeAll(async () => {
  const plans = Array.from({ length: Limits.queueDepth }, () => new PlanBuffer(8192));
  const results = plans.map(() => ResultBuffer.shared(CONFIG.maxRows));
  const request = TestModel.requestFor(tiny, {
    plans: plans.map(({ words }) => words),
    results: results.map(({ words }) => words),
  });
  const target = {
    handle: await addon.loadModel(engine, request, () => undefined),
    plans,
    results,
    ropeSwitchLength: null,
    vocabSize: tiny.spec.vocabSize,
    tuning: null,
  } as unknown as NativeModel;
  const core = new Scheduler(CONFIG);
  runner = new ModelRunner(1, { addon, target, draft: null, core, post: (report) => hear(report) });
});
afterAll(async () => {
  await addon.closeEngine(engine);
  tiny.remove();
});

/** A request for `maxTokens` tokens, greedy. */
const request = (id: number, tokens: readonly number[], numLogprobs = -1, maxTokens = 3): RequestMessage => ({
  id,
  tokens: Int32Array.from(tokens),
  settings: {
    kind: RequestKind.generate,
    maxTokens,
    sampling: {
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      seed: 1,
    },
    numLogprobs,
    stopTokens: new Int32Array(0),
    biasTokens: new Int32Array(0),
    biasValues: new Float32Array(0),
    positions: new Int32Array(0),
    pooling: 0,
    secondSegment: 0,
    speculation: null,
  },
  priority: 0,
  deadline: null,
  salt: '',
  adapter: 0,
  credit: 100,
  outputLength: 0,
});

/** How the request ends: its message, or the number of its tokens. */
function endOf(id: number, tokens: readonly number[]): Promise<string | number> {
  return new Promise((resolve) => {
    let numTokens = 0;
    hear = (report) => {
      if (report.type !== 'deltas') return;
      readDeltas(report, () => ({
        started: () => {},
        token: () => {
          numTokens += 1;
        },
        drafted: () => {},
        finished: () => resolve(numTokens),
        evaluated: () => {},
        aborted: () => {},
        failed: (_at, error) => resolve(`${error.code}: ${error.message}`),
      }));
    };
    runner.add(request(id, tokens));
  });
}

test('a request whose step fails is told why, and the next one is answered', async () => {
  expect(await endOf(1, [5, 17, 2])).toBe(3);
  const { vocabSize } = tiny.spec;
  const what = `step plan: a token id is ${vocabSize}, expected 0..${vocabSize - 1}`;
  expect(await endOf(2, [5, vocabSize, 2])).toMatch(
    new RegExp(`^engine_failed: step \\d+ failed with invalid_parameter: ${what}$`),
  );
  expect(await endOf(3, [5, 17, 2])).toBe(3);
});

// Goal: steps that the addon tells together are one report, each token with its own step's log-probabilities. Method: an
// addon that only notes what is submitted; the test writes the results.
test('tokens of steps that are told together are reported together', async () => {
  const numWords = 4_096;
  const plans = Array.from({ length: Limits.queueDepth }, () => new PlanBuffer(numWords));
  const results = plans.map(() => ResultBuffer.shared(CONFIG.maxRows));
  const submitted: number[] = [];
  const reports: EngineReport[] = [];
  const noting = new ModelRunner(2, {
    addon: { submitStep: (_model: number, slot: number) => submitted.push(slot) } as unknown as NativeAddon,
    target: { handle: 9, plans, results, ropeSwitchLength: null, tuning: null } as unknown as NativeModel,
    draft: null,
    core: new Scheduler(CONFIG),
    post: (report) => reports.push(report),
  });
  const floats = new Float32Array(1);
  const bits = new Int32Array(floats.buffer);
  let step = 0;
  const finish = (token: number, hasMore: boolean): void => {
    const slot = submitted.shift() ?? -1;
    const words = results[slot]?.words ?? new Int32Array(0);
    step += 1;
    words.fill(0, 0, ResultHeader.numWords + Limits.resultRowWords);
    words.set([step, 0, 1], 0);
    words[ResultHeader.numWords + ResultRow.generation] = 1;
    words[ResultHeader.numWords + ResultRow.numTokens] = 1;
    words[ResultHeader.numWords + ResultRow.token] = token;
    floats[0] = -token;
    words[ResultHeader.numWords + ResultRow.logprob] = bits[0] ?? 0;
    noting.stepFinished(9 as never, slot, hasMore);
  };
  const tokensOf = (report: EngineReport | undefined): [number, number | undefined][] => {
    const found: [number, number | undefined][] = [];
    if (report?.type !== 'deltas') return found;
    const sink = {
      token: (_at: number, token: number, record: { logprob: number } | null) =>
        found.push([token, record?.logprob]),
    };
    readDeltas(
      report,
      () => new Proxy(sink, { get: (target, name) => Reflect.get(target, name) ?? (() => {}) }) as never,
    );
    return found;
  };

  noting.add(request(1, [5, 17, 2], 0, 50));
  await new Promise((resolve) => setImmediate(resolve)); // it plans at the end of a burst of commands
  finish(11, false);
  expect(tokensOf(reports.pop())).toEqual([[11, -11]]);
  reports.length = 0; // the start was one, too
  finish(12, true);
  expect(reports, 'the first of two steps is kept').toEqual([]);
  finish(13, false);
  expect(reports).toHaveLength(1);
  expect(tokensOf(reports.pop())).toEqual([
    [12, -12],
    [13, -13],
  ]);
  expect(submitted.length, 'the queue is full again').toBeGreaterThanOrEqual(2);
});
