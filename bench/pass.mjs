// One pass over one subject in a process of its own: node pass.mjs SUBJECT KIND FILE THREADS. Prints figures as JSON.
// KIND is `speed`, `turns` or `decode`; turns are measured apart, because watching them costs time.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SUBJECTS } from './subjects.mjs';

const DECODE_TOKENS = 128;
const PREFILL_TOKENS = 512;
const DECODE_TURNS = 3;
const PARALLEL = 8;
const PARALLEL_TOKENS = 64;
const SHORT_PROMPT = 16;
/** The main thread works this long at a time and rests as long. */
const BUSY_MS = 15;
const IDLE_MS = 2_000;
/** V8 collects garbage once, some four seconds after the last work. */
const SETTLE_MS = 8_000;

let numPrompts = 0;
/** Ids of ordinary tokens; no two prompts begin alike, so that nothing is found in a cache. */
function prompt(length) {
  numPrompts += 1;
  return Int32Array.from({ length }, (_, i) => 1_000 + ((numPrompts * 7_919 + i * 104_729) % 40_000));
}

/** Tokens per second after those that came first. */
async function decodeSpeed(model) {
  let first = null;
  let last = null;
  for await (const count of model.generate(prompt(SHORT_PROMPT), DECODE_TOKENS)) {
    const now = performance.now();
    first ??= { at: now, count };
    last = { at: now, count: (last?.count ?? 0) + count };
  }
  return ((last.count - first.count) * 1_000) / (last.at - first.at);
}

async function prefillSpeed(model) {
  const startedAt = performance.now();
  for await (const _ of model.generate(prompt(PREFILL_TOKENS), 1)) break;
  return (PREFILL_TOKENS * 1_000) / (performance.now() - startedAt);
}

async function parallelSpeed(model) {
  const prompts = Array.from({ length: PARALLEL }, () => prompt(SHORT_PROMPT));
  const elapsedMs = await model.generateMany(prompts, PARALLEL_TOKENS);
  return (PARALLEL * PARALLEL_TOKENS * 1_000) / elapsedMs;
}

/** Decoding while the main thread is busy half of the time. */
async function busyDecodeSpeed(model) {
  let isOver = false;
  const load = (async () => {
    while (!isOver) {
      const until = performance.now() + BUSY_MS;
      while (performance.now() < until);
      await sleep(BUSY_MS);
    }
  })();
  const speed = await decodeSpeed(model);
  isOver = true;
  await load;
  return speed;
}

/** Both decoding speeds in turn, so that a drift of the machine falls on both; the medians. */
async function decodeSpeeds(model) {
  const decode = [];
  const busyDecode = [];
  for (let turn = 0; turn < DECODE_TURNS; turn += 1) {
    decode.push(await decodeSpeed(model));
    busyDecode.push(await busyDecodeSpeed(model));
  }
  return { decode: middleOf(decode), busyDecode: middleOf(busyDecode) };
}

const middleOf = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Percent of one core that the process uses while nothing is asked of it. */
async function idleShare() {
  await sleep(SETTLE_MS);
  const before = process.cpuUsage();
  await sleep(IDLE_MS);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 10 / IDLE_MS;
}

async function speedPass(subject, settings) {
  const importedAt = performance.now();
  const library = await import(subject.entry);
  const importMs = performance.now() - importedAt;
  const loadedAt = performance.now();
  const model = await subject.load(library, settings);
  const loadMs = performance.now() - loadedAt;
  for await (const _ of model.generate(prompt(SHORT_PROMPT), 8));
  const figures = {
    importMs,
    loadMs,
    ...(await decodeSpeeds(model)),
    prefill: await prefillSpeed(model),
    parallel: await parallelSpeed(model),
    idlePercent: await idleShare(),
  };
  await model.close();
  return figures;
}

async function decodePass(subject, settings) {
  const model = await subject.load(await import(subject.entry), settings);
  for await (const _ of model.generate(prompt(SHORT_PROMPT), 8));
  const decode = await decodeSpeed(model);
  await model.close();
  return { decode };
}

/** Milliseconds of processor time the main thread has had; wall time would count the compute threads' share too. */
function mainThreadMs() {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
}

async function turnsPass(subject, settings) {
  const library = await import(subject.entry);
  const longest = { load: 0, generate: 0 };
  let phase = 'load';
  let last = null;
  const watch = () => {
    const now = mainThreadMs();
    if (last !== null && phase !== null) longest[phase] = Math.max(longest[phase], now - last);
    last = now;
    if (phase !== null) setTimeout(watch, 0);
  };
  watch();
  const model = await subject.load(library, settings);
  phase = 'generate';
  await prefillSpeed(model);
  await decodeSpeed(model);
  phase = null;
  await model.close();
  return { loadTurnMs: longest.load, generateTurnMs: longest.generate };
}

const [name, kind, file, threads] = process.argv.slice(2);
const PASSES = { speed: speedPass, turns: turnsPass, decode: decodePass };
const figures = await PASSES[kind](SUBJECTS[name], { file, threads: Number(threads) });
process.stdout.write(`${JSON.stringify(figures)}\n`, () => process.exit(0));
