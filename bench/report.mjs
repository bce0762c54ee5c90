// bench/results.md is made of the JSON files in bench/results: one section per run, the newest first.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../scripts/run.mjs';

export const resultsFolder = join(root, 'bench', 'results');

/**
 * Rows of the table. `wins` says which way is better; `bar` is what issue 3 asks of the ratio ours / peer, or of our own
 * figure where `isOwn` is set.
 */
const ROWS = [
  { key: 'decode', label: 'decode, 1 sequence (tokens/s)', digits: 1, bar: ['>=', 1] },
  { key: 'prefill', label: 'prefill of 512 tokens (tokens/s)', digits: 0, bar: ['>=', 1.5] },
  { key: 'parallel', label: '8 sequences at once, sum (tokens/s)', digits: 1, bar: ['>=', 2] },
  { key: 'loadMs', label: 'load (ms)', digits: 0, bar: ['<=', 1.5] },
  { key: 'importMs', label: 'import (ms)', digits: 0, bar: ['<=', 0.5] },
  { key: 'busyDecode', label: 'decode, main thread half busy (tokens/s)', digits: 1 },
  { key: 'busyLoss', label: 'lost to the busy main thread (%)', digits: 1, bar: ['<=', 20], isOwn: true },
  { key: 'idlePercent', label: 'idle (% of a core)', digits: 2, bar: ['<=', 0.5], isOwn: true },
  {
    key: 'loadTurnMs',
    label: 'longest main-thread turn, loading (CPU ms)',
    digits: 1,
    bar: ['<=', 20],
    isOwn: true,
  },
  {
    key: 'generateTurnMs',
    label: 'longest main-thread turn, generating (CPU ms)',
    digits: 1,
    bar: ['<=', 20],
    isOwn: true,
  },
];

const isMet = ([relation, bound], value) => (relation === '>=' ? value >= bound : value <= bound);

/** Markdown of one run. */
export function section({ date, command, machine, model, threads, rounds, peer, probes, medians }) {
  const [ours, theirs] = [medians['open-autoglm'], medians[peer.name]];
  const lines = ROWS.filter(({ key }) => ours[key] !== undefined).map(
    ({ key, label, digits, bar, isOwn }) => {
      const ratio = ours[key] / theirs[key];
      const shown = isOwn === true ? '' : `${ratio.toFixed(2)}x`;
      const judged =
        bar === undefined
          ? ''
          : `${bar.join(' ')} ${isMet(bar, isOwn ? ours[key] : ratio) ? 'met' : 'missed'}`;
      return `| ${label} | ${ours[key].toFixed(digits)} | ${theirs[key].toFixed(digits)} | ${shown} | ${judged} |`;
    },
  );
  const spread = (100 * (Math.max(...probes) - Math.min(...probes))) / Math.max(...probes);
  return [
    `## ${date}`,
    '',
    `${machine.cpu}, ${machine.processors} processors, ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}; ` +
      `${model}, ${threads} threads. Medians of ${rounds} passes each, a process per pass, interleaved. ` +
      `The machine's own speed (SHA-256 on one thread) varied by ${spread.toFixed(0)} % during the run.`,
    '',
    `    ${command}`,
    '',
    `| | open-autoglm | ${peer.name} ${peer.version} | ratio | bar |`,
    '| --- | ---: | ---: | ---: | --- |',
    ...lines,
    '',
  ].join('\n');
}

export function writeReport() {
  const runs = readdirSync(resultsFolder)
    .filter((name) => /^\d.*\.json$/.test(name)) // those of bench/cpu begin with a word
    .map((name) => JSON.parse(readFileSync(join(resultsFolder, name), 'utf8')))
    .sort((a, b) => b.date.localeCompare(a.date));
  const head = [
    '# Benchmark results',
    '',
    'Written by `node bench/main.mjs`; the figures of each pass are in `bench/results`. Absolute speeds of shared machines',
    'mean little: read the ratios, and the spread of the machine beside them.',
    '',
    '',
  ].join('\n');
  writeFileSync(join(root, 'bench', 'results.md'), head + runs.map(section).join('\n'));
}
