// Goal: worker_threads that end at any moment (terminate, process.exit, an uncaught error in the step callback) while
// steps are queued and called back neither crash nor hang the process.
// Method: each round starts a worker that loads a small model and keeps every slot queued, and ends it after a random
// time. Usage: node terminate-workers.cjs [rounds [driver]]; with a CUDA driver's library, its GPU computes.
// Prints one JSON line; exits 1 when a worker ended unexpectedly.
const { mkdtempSync, rmSync, statSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { Admission, Entry, Limits, PageUpdate, PlanHeader, ResultHeader } = require('../../dist/native/abi.js');

const ADDON =
  process.env.OPEN_AUTOGLM_BINARY ?? join(__dirname, '..', '..', 'build', 'Release', 'open_autoglm.node');
const WAYS = ['terminate', 'terminate', 'exit', 'throw'];
const STEP_TOKENS = 128;

function smallModel(path) {
  const norm = { kind: 'rms', epsilon: 1e-5, hasUnitOffset: false, hasBias: false };
  const [vocabSize, hiddenSize, intermediateSize, numLayers] = [512, 128, 256, 4];
  const tensors = [];
  const parts = [];
  let offset = 0;
  const add = (role, ...shape) => {
    const length = shape.reduce((product, size) => product * size, 1);
    const values = Float32Array.from({ length }, (_, i) => Math.sin(i + offset) * 0.2);
    const slices = [{ file: 0, offset, byteLength: values.byteLength }];
    tensors.push({ role, source: { format: 'f32', shape, slices, rowOrder: null, isTransposed: false } });
    parts.push(new Uint8Array(values.buffer));
    offset += values.byteLength;
  };
  add('embedding', vocabSize, hiddenSize);
  add('final_norm', hiddenSize);
  for (let i = 0; i < numLayers; i += 1) {
    for (const name of ['attention_norm', 'mlp_norm']) add(`layers.${i}.${name}`, hiddenSize);
    for (const name of ['q', 'k', 'v', 'o']) add(`layers.${i}.attention.${name}`, hiddenSize, hiddenSize);
    for (const name of ['gate', 'up']) add(`layers.${i}.mlp.${name}`, intermediateSize, hiddenSize);
    add(`layers.${i}.mlp.down`, hiddenSize, intermediateSize);
  }
  writeFileSync(path, Buffer.concat(parts));
  const attention = {
    numQHeads: 4,
    numKvHeads: 4,
    headDim: 32,
    valueDim: 32,
    scale: 0.2,
    hasQkvBias: false,
    hasOutputBias: false,
    qkNorm: null,
    slidingWindow: null,
    softCap: null,
    isCausal: true,
    ropeTable: null,
    latent: null,
  };
  const mlp = { kind: 'dense', intermediateSize, isGated: true, activation: 'silu', hasBias: false };
  const layer = { attention, mlp, normPlacement: 'pre', norm, residualScale: 1 };
  const spec = {
    vocabSize,
    hiddenSize,
    contextLength: STEP_TOKENS,
    embedding: { scale: 1, hasPositions: false, numTokenTypes: 0, norm: null },
    layers: new Array(numLayers).fill(layer),
    finalNorm: norm,
    head: { isTied: true, hasBias: false, softCap: null, scale: 1 },
    ropeTables: [],
    pooledLayers: [],
  };
  return { spec, tensors };
}

/** A plan that admits one row and computes all of its positions. */
function writePlan(words) {
  const admission = new Int32Array(Admission.numWords + STEP_TOKENS);
  admission[Admission.words] = admission.length;
  admission[Admission.numTokens] = STEP_TOKENS;
  admission[Admission.numPromptTokens] = STEP_TOKENS;
  const floats = new Float32Array(admission.buffer);
  floats[Admission.topP] = 1;
  floats[Admission.repetitionPenalty] = 1;
  admission[Admission.numLogprobs] = -1;
  let at = PlanHeader.numWords;
  words[PlanHeader.numAdmissions] = 1;
  words[PlanHeader.admissionsOffset] = at;
  words.set(admission, at);
  at += admission.length;
  words[PlanHeader.numEntries] = 1;
  words[PlanHeader.entriesOffset] = at;
  words[at + Entry.count] = STEP_TOKENS;
  at += Entry.numWords;
  const numPages = STEP_TOKENS / Limits.pageSize;
  words[PlanHeader.numPageUpdates] = numPages;
  words[PlanHeader.pageUpdatesOffset] = at;
  for (let i = 0; i < numPages; i += 1, at += PageUpdate.numWords) {
    words[at + PageUpdate.index] = i;
    words[at + PageUpdate.page] = i;
  }
  words[PlanHeader.totalWords] = at;
}

async function work({ spec, tensors, path, device, way, delay }) {
  const addon = require(ADDON);
  const { size, mtimeMs } = statSync(path);
  const shared = (length) => new Int32Array(new SharedArrayBuffer(4 * length));
  const plans = Array.from({ length: Limits.queueDepth }, () => shared(1024));
  const resultWords = ResultHeader.numWords + (1 + Limits.maxStepDrafts) * Limits.resultRowWords;
  let numSteps = 0;
  let throwsNext = false;
  const engine = addon.createEngine({ threads: 2, isa: null }, (model, slot) => {
    numSteps += 1;
    addon.submitStep(model, slot);
    if (throwsNext) throw new Error('thrown on purpose');
  });
  const model = await addon.loadModel(
    engine,
    {
      spec,
      files: [{ path, size, mtimeMs }],
      tensors,
      packed: null,
      precision: 'fast',
      kvDtype: 'bf16',
      device,
      numPages: STEP_TOKENS / Limits.pageSize,
      maxRows: 1,
      maxStepTokens: STEP_TOKENS,
      plans,
      results: plans.map(() => shared(resultWords)),
      cancel: shared(1),
    },
    () => undefined,
  );
  for (const [slot, words] of plans.entries()) {
    writePlan(words);
    addon.submitStep(model, slot);
  }
  parentPort.postMessage('running');
  if (way === 'exit') setTimeout(() => process.exit(7), delay);
  if (way === 'throw') setTimeout(() => (throwsNext = true), delay);
  setInterval(() => parentPort.postMessage(numSteps), 20);
}

function endOf(worker, way, delay) {
  return new Promise((resolve) => {
    let numSteps = 0;
    let error = null;
    worker.on('message', (message) => {
      if (typeof message === 'number') numSteps = message;
      else if (way === 'terminate') setTimeout(() => worker.terminate(), delay);
    });
    worker.on('error', (reason) => {
      error = reason.message;
    });
    worker.on('exit', (code) => resolve({ code, error, numSteps }));
  });
}

async function main() {
  const rounds = Number(process.argv[2] ?? 200);
  const folder = mkdtempSync(join(tmpdir(), 'open-autoglm-terminate-'));
  const path = join(folder, 'weights.bin');
  const library = process.argv[3];
  const device = library === undefined ? null : { library, stages: [{ index: 0, firstLayer: 0 }] };
  const model = { ...smallModel(path), device };
  const expected = { terminate: { code: 1, error: null }, exit: { code: 7, error: null } };
  expected.throw = { code: 1, error: 'thrown on purpose' };
  const ends = {};
  let numSteps = 0;
  let numWrong = 0;
  for (let round = 0; round < rounds; round += 1) {
    const way = WAYS[round % WAYS.length];
    const delay = (round * 37) % 41;
    const worker = new Worker(__filename, { workerData: { ...model, path, way, delay } });
    const end = await endOf(worker, way, delay);
    numSteps += end.numSteps;
    ends[way] = (ends[way] ?? 0) + 1;
    if (end.code === expected[way].code && end.error === expected[way].error) continue;
    numWrong += 1;
    process.stderr.write(`round ${round}: ${way} after ${delay} ms ended with ${JSON.stringify(end)}\n`);
  }
  rmSync(folder, { recursive: true });
  process.stdout.write(`${JSON.stringify({ node: process.version, rounds, ends, numSteps, numWrong })}\n`);
  process.exitCode = numWrong === 0 ? 0 : 1;
}

if (isMainThread) main();
else work(workerData);
