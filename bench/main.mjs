// Measures this package beside node-llama-cpp on the same model file:
//   node bench/main.mjs [--file MODEL.gguf] [--threads 2] [--rounds 5] [--dry]
// Without --file the catalog's SmolLM2 is used. --dry measures and prints but writes nothing into bench/.
// The peer is installed by this script, without its scripts, into an ignored folder: its prebuilt package is used.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { root } from '../scripts/run.mjs';
import { describeMachine, loadAverage, probe } from './machine.mjs';
import { resultsFolder, section, writeReport } from './report.mjs';
import { installPeer, PEER, SUBJECTS } from './subjects.mjs';

const MODEL = 'smollm2-135m-instruct';
const OURS = 'open-autoglm';

const { values: flags } = parseArgs({
  options: {
    file: { type: 'string' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    dry: { type: 'boolean', default: false },
  },
});
const [threads, rounds] = [Number(flags.threads), Number(flags.rounds)];
const note = (text) => process.stderr.write(`${text}\n`);

/** The model's file on disk; the package itself resolves and fetches it. */
async function modelFile() {
  if (flags.file !== undefined) return flags.file;
  const { createEngine } = await import(pathToFileURL(join(root, 'dist', 'index.mjs')).href);
  const engine = await createEngine({ threads });
  try {
    const model = await engine.loadModel(MODEL);
    return model.info.files[0];
  } finally {
    await engine.close();
  }
}

/** A pass takes seconds on a quiet machine; on a crowded one the peer's spinning threads can take for ever. */
const PASS_TIMEOUT_MS = 300_000;

function runPass(subject, kind, file) {
  const args = [join(root, 'bench', 'pass.mjs'), subject, kind, file, String(threads)];
  const options = { encoding: 'utf8', timeout: PASS_TIMEOUT_MS };
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, options);
  if (status !== 0)
    throw new Error(`the ${kind} pass of ${subject} ended with ${status ?? signal}: ${stderr}`);
  const figures = JSON.parse(stdout.trim().split('\n').at(-1));
  if (figures.decode !== undefined) figures.busyLoss = 100 * (1 - figures.busyDecode / figures.decode);
  return figures;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const mediansOf = (passes) =>
  Object.fromEntries(Object.keys(passes[0]).map((key) => [key, median(passes.map((pass) => pass[key]))]));

/** A B A B ... A: a drift of the machine falls on both. The surplus pass of ours is the last one. */
function measure(file) {
  const passes = { [OURS]: [], [PEER.name]: [] };
  const probes = [];
  for (let pass = 0; pass < 2 * rounds + 1; pass += 1) {
    const subject = pass % 2 === 0 ? OURS : PEER.name;
    probes.push(probe());
    const figures = { ...runPass(subject, 'speed', file), ...runPass(subject, 'turns', file) };
    passes[subject].push(figures);
    note(
      `${subject}: decode ${figures.decode.toFixed(1)}, prefill ${figures.prefill.toFixed(0)}, 8 at once ${figures.parallel.toFixed(1)}`,
    );
  }
  probes.push(probe());
  return { passes, probes };
}

if (installPeer()) note(`installed ${PEER.name} ${PEER.version}`);
const file = await modelFile();
const before = loadAverage();
if (before !== null && before > 0.5) note(`load average ${before}: others are using this machine`);
const { passes, probes } = measure(file);
const run = {
  date: new Date().toISOString().slice(0, 16).replace('T', ' '),
  command: `node bench/main.mjs --threads ${threads} --rounds ${rounds}`,
  machine: describeMachine(),
  model: basename(file),
  threads,
  rounds,
  peer: PEER,
  loadAverage: before,
  probes,
  medians: Object.fromEntries(Object.keys(SUBJECTS).map((name) => [name, mediansOf(passes[name])])),
  passes,
};
process.stdout.write(`${section(run)}\n`);
if (!flags.dry) {
  mkdirSync(resultsFolder, { recursive: true });
  const name = `${run.date.replace(/[ :]/g, '-')}.json`;
  writeFileSync(join(resultsFolder, name), `${JSON.stringify(run, null, 1)}\n`);
  writeReport();
}
