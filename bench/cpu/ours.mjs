// This package as an application uses it, in a process of its own that companion.mjs talks to:
//   node ours.mjs FILE THREADS [kept]
// With `kept`, packed weights are taken from disk and kept there; without, nothing is written while others are measured.
// Questions: {kind: "decode", batch, tokens, prompt, depth}, {kind: "prefill", tokens, depth}, {kind: "busyDecode", tokens,
// busyMs}, {kind: "memory"}. Speeds are tokens per second, summed over the batch.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { root } from '../../scripts/run.mjs';

const [file, threads, kept] = process.argv.slice(2);
const CONTEXT_LENGTH = 8_192;
const KV_MEMORY = '1GiB';
/** As many positions in one step as the peers' micro-batch. */
const STEP_TOKENS = 512;

const { createEngine } = await import(pathToFileURL(join(root, 'dist', 'index.mjs')).href);
const engine = await createEngine({ threads: Number(threads) });
const startedAt = performance.now();
const model = await engine.loadModel({
  source: file,
  contextLength: CONTEXT_LENGTH,
  maxConcurrency: 64,
  maxStepTokens: STEP_TOKENS,
  kvCache: { memory: KV_MEMORY },
  weightCache: kept === 'kept',
});
const loadMs = performance.now() - startedAt;

let numPrompts = 0;
/** Ids of ordinary tokens; no two prompts begin alike, so that nothing is found in the prefix cache. */
function prompt(length) {
  numPrompts += 1;
  return Array.from({ length }, (_, i) => 1_000 + ((numPrompts * 7_919 + i * 104_729) % 40_000));
}

const history = prompt(CONTEXT_LENGTH);
/** The first `depth` tokens of one and the same history: computed once, found in the prefix cache ever after. */
async function historyOf(depth) {
  const tokens = history.slice(0, depth);
  if (depth > 0) for await (const _ of generate([...tokens, 1_000], 1));
  return tokens;
}

const generate = (tokens, maxTokens) =>
  model.generate({ tokens, maxTokens, temperature: 0, ignoreEos: true });

/** Times at which tokens arrived, with how many came. */
async function arrivals(tokens, maxTokens) {
  const times = [];
  for await (const event of generate(tokens, maxTokens)) {
    if (event.type === 'text') times.push({ at: performance.now(), count: event.tokens.length });
  }
  return times;
}

/** Speed from the moment when all sequences of the batch have begun. */
async function decode({ batch = 1, tokens, prompt: promptLength = 16, depth = 0 }) {
  const start = await historyOf(depth);
  const runs = Array.from({ length: batch }, () => arrivals([...start, ...prompt(promptLength)], tokens + 1));
  const all = await Promise.all(runs);
  const begin = Math.max(...all.map((times) => times[0].at));
  const later = all.flat().filter(({ at }) => at > begin);
  const count = later.reduce((sum, each) => sum + each.count, 0);
  return { speed: (count * 1_000) / (Math.max(...later.map(({ at }) => at)) - begin) };
}

async function prefill({ tokens, depth = 0 }) {
  const all = [...(await historyOf(depth)), ...prompt(tokens)];
  const begin = performance.now();
  for await (const event of generate(all, 1)) if (event.type === 'text') break;
  return { speed: (tokens * 1_000) / (performance.now() - begin) };
}

/** Decoding while the main thread works `busyMs` at a time and rests as long. */
async function busyDecode({ tokens, busyMs }) {
  let isOver = false;
  const load = (async () => {
    while (!isOver) {
      const until = performance.now() + busyMs;
      while (performance.now() < until);
      await sleep(busyMs);
    }
  })();
  const answer = await decode({ tokens });
  isOver = true;
  await load;
  return answer;
}

/** Resident bytes now, as the kernel counts them. */
function memory() {
  const kib = Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
  return {
    loadMs,
    residentBytes: kib * 1_024,
    weightBytes: model.info.weightBytes,
    isFromCache: model.info.isFromCache,
    layouts: model.info.layouts,
  };
}

const ANSWERS = { decode, prefill, busyDecode, memory };
for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  const cpuBefore = process.cpuUsage();
  const askedAt = performance.now();
  const answer = await ANSWERS[question.kind](question);
  const { user, system } = process.cpuUsage(cpuBefore);
  const cores = (user + system) / 1_000 / (performance.now() - askedAt);
  process.stdout.write(`${JSON.stringify({ ...answer, cores })}\n`);
}
await engine.close();
