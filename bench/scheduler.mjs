// What JavaScript costs per step, without a model: the scheduler and all the engine worker does around it, with a stand-in for
// the addon whose answers are there at once:
//   node --max-semi-space-size=64 bench/scheduler.mjs [--rows 256] [--steps 2000]
// A young generation that large leaves long stretches without a collection, in which the bytes per token can be read.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../scripts/run.mjs';
import { median } from './cpu/frame.mjs';

const { values: flags } = parseArgs({
  options: { rows: { type: 'string', default: '256' }, steps: { type: 'string', default: '2000' } },
});
const numRows = Number(flags.rows);
const numSteps = Number(flags.steps);
const PROMPT_TOKENS = 64;
/** Bar of issue 5: a pass of the scheduler over 256 running requests. */
const MAX_PASS_US = 50;

const load = (path) => createRequire(import.meta.url)(join(root, 'dist', path));
const { Scheduler } = load('scheduler/scheduler.js');
const { schedulerConfig, planCapacity } = load('engine/worker/plan-capacity.js');
const { PlanBuffer } = load('engine/worker/plan-writer.js');
const { ResultBuffer } = load('engine/worker/step-result.js');
const { ModelRunner } = load('engine/worker/model-runner.js');
const { Entry, Limits, PlanHeader, ResultHeader, ResultRow } = load('native/abi.js');

/** Requests live for all steps, those that warm up and a few more. */
const contextLength = PROMPT_TOKENS + 2 * numSteps + 1_024;
const config = schedulerConfig(
  {
    maxStepTokens: 8_192,
    maxChunkTokens: 8_192,
    maxConcurrency: numRows,
    maxQueuedRequests: numRows,
    prefixCache: true,
  },
  { contextLength, numPages: numRows * Math.ceil(contextLength / Limits.pageSize) },
  true,
);
/** Nobody guesses. */
const SOLO = { ...config, draftModel: null };

/** The tokens of a prompt, of which no two share a page. */
const prompt = (n) => Int32Array.from({ length: PROMPT_TOKENS }, (_, i) => n * 1_009 + i);

function timer() {
  const times = new Float64Array(numSteps);
  let count = 0;
  return {
    add(ms) {
      times[count % numSteps] = 1_000 * ms;
      count += 1;
    },
    get p50() {
      return median([...times]);
    },
    get p99() {
      return times.toSorted()[Math.floor(0.99 * numSteps)];
    },
  };
}

/** Runs `turn` as often as there are steps, twice: the first time is for the compiler. Returns times and bytes per turn. */
function measure(turn) {
  for (let i = 0; i < numSteps; i += 1) turn();
  const turns = timer();
  let bytes = 0;
  let numCounted = 0;
  for (let i = 0; i < numSteps; i += 1) {
    const heapBefore = process.memoryUsage().heapUsed;
    const begin = performance.now();
    turn();
    turns.add(performance.now() - begin);
    const grown = process.memoryUsage().heapUsed - heapBefore;
    if (grown < 0) continue; // a collection came in between
    bytes += grown;
    numCounted += 1;
  }
  return { p50: turns.p50, p99: turns.p99, bytes: bytes / numCounted };
}

/** One pass: takes in the result of a step, plans the next one, says what happened. */
function schedulerPass() {
  const core = new Scheduler(SOLO);
  for (let n = 0; n < numRows; n += 1)
    core.add({
      id: n + 1,
      kind: 0,
      promptTokens: prompt(n),
      maxTokens: contextLength - PROMPT_TOKENS,
      priority: 0,
      deadline: null,
      salt: '',
      drafts: null,
    });
  const inFlight = [core.schedule()];
  const answer = ({ row, generation, samples }) => ({
    row,
    generation,
    token: samples ? 7 : -1,
    further: [],
    finish: 0,
  });
  let result = null;
  const prepare = () => {
    const plan = inFlight.shift();
    result = { step: plan.step, entries: plan.entries.map(answer) };
  };
  const pass = timer();
  for (let i = 0; i < 2 * numSteps; i += 1) {
    const plan = core.schedule();
    if (plan !== null) inFlight.push(plan);
    prepare();
    core.now += 5;
    const begin = performance.now();
    core.apply(result);
    const next = core.schedule();
    core.takeEvents();
    pass.add(performance.now() - begin);
    if (next !== null) inFlight.push(next);
  }
  return pass;
}

/** The whole turn of the engine worker, with the addon's work done by the stand-in before the clock starts. */
function workerTurn() {
  const numWords = planCapacity(config);
  const plans = Array.from({ length: Limits.queueDepth }, () => new PlanBuffer(numWords));
  const results = plans.map(() => ResultBuffer.shared(numRows));
  const submitted = [];
  const runner = new ModelRunner(1, {
    addon: { submitStep: (_, slot) => submitted.push(slot) },
    target: { handle: null, ropeSwitchLength: null, plans, results, tuning: null },
    draft: null,
    core: new Scheduler(SOLO),
    post: () => {},
  });
  for (let n = 0; n < numRows; n += 1)
    runner.add({
      id: n + 1,
      tokens: prompt(n),
      settings: requestSettings(),
      priority: 0,
      deadline: null,
      salt: '',
      adapter: 0,
      credit: Number.MAX_SAFE_INTEGER,
      outputLength: 0,
    });
  const finish = () => {
    const slot = submitted.shift();
    answerPlan(plans[slot].words, results[slot].words);
    return slot;
  };
  return { runner, finish };
}

const requestSettings = () => ({
  kind: 0,
  maxTokens: contextLength - PROMPT_TOKENS,
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
  stopTokens: new Int32Array(1),
  biasTokens: new Int32Array(0),
  biasValues: new Float32Array(0),
  positions: new Int32Array(0),
  pooling: 0,
  secondSegment: 0,
  speculation: null,
});

/** What the engine thread writes: token 7 for every row that samples. */
function answerPlan(plan, result) {
  const numEntries = plan[PlanHeader.numEntries];
  result[ResultHeader.step] = plan[PlanHeader.step];
  result[ResultHeader.errorCode] = 0;
  result[ResultHeader.numRows] = numEntries;
  for (let i = 0; i < numEntries; i += 1) {
    const from = plan[PlanHeader.entriesOffset] + i * Entry.numWords;
    const to = ResultHeader.numWords + i * Limits.resultRowWords;
    const samples = plan[from + Entry.flags] !== 0;
    result[to + ResultRow.row] = plan[from + Entry.row];
    result[to + ResultRow.generation] = plan[from + Entry.generation];
    result[to + ResultRow.numTokens] = samples ? 1 : 0;
    result[to + ResultRow.token] = 7;
    result[to + ResultRow.finish] = 0;
  }
}

const pass = schedulerPass();
const { runner, finish } = workerTurn();
await new Promise((resolve) => setImmediate(resolve)); // the runner plans at the end of a burst of commands
// Until prompts are computed and the queue has the depth that it keeps.
for (let n = 0; n < 8; n += 1) runner.stepFinished(null, finish(), false);
const turn = measure(() => runner.stepFinished(null, finish(), false));
const us = (value) => `${value.toFixed(1)} us`;
process.stdout.write(
  `${numRows} requests decode, ${numSteps} steps\n` +
    `scheduler pass (apply, schedule, events): median ${us(pass.p50)}, p99 ${us(pass.p99)}; bar ${MAX_PASS_US} us for 256: ` +
    `${pass.p50 <= MAX_PASS_US ? 'met' : 'missed'}\n` +
    `engine worker's turn (with results read, plan written, deltas): median ${us(turn.p50)}, p99 ${us(turn.p99)}\n` +
    `allocated per turn ${(turn.bytes / 1_024).toFixed(1)} KiB, per token ${(turn.bytes / numRows).toFixed(0)} bytes\n`,
);
