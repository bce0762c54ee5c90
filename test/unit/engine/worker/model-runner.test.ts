import { afterAll, beforeAll, expect, test } from 'vitest';
import { readDeltas } from '../../../../lib/engine/worker/deltas';
import type { NativeModel } from '../../../../lib/engine/worker/model-loading';
import { ModelRunner } from '../../../../lib/engine/worker/model-runner';
import { PlanBuffer } from '../../../../lib/engine/worker/plan-writer';
import type { EngineReport, RequestMessage } from '../../../../lib/engine/worker/protocol';
import { ResultBuffer } from '../../../../lib/engine/worker/step-result';
import { RequestKind } from '../../../../lib/native/abi';
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
const engine = addon.createEngine({ threads: 1, isa: null }, (model, slot) =>
  runner.stepFinished(model, slot),
);

beforeAll(async () => {
  const plans = [new PlanBuffer(8192), new PlanBuffer(8192)] as const;
  const results = [ResultBuffer.shared(CONFIG.maxRows), ResultBuffer.shared(CONFIG.maxRows)] as const;
  const request = TestModel.requestFor(tiny, {
    plans: [plans[0].words, plans[1].words],
    results: [results[0].words, results[1].words],
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

/** How the request ends: its message, or the number of its tokens. */
function endOf(id: number, tokens: readonly number[]): Promise<string | number> {
  const message: RequestMessage = {
    id,
    tokens: Int32Array.from(tokens),
    settings: {
      kind: RequestKind.generate,
      maxTokens: 3,
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
      numLogprobs: -1,
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
  };
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
    runner.add(message);
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
