// Parts that look at whole programs: loading, servers, and the quality of the answers.
import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { compare, summarize } from './frame.mjs';
import { openOurs } from './measure-part.mjs';
import { modelFile } from './models.mjs';
import { LLAMA, OURS } from './parts.mjs';
import { places } from './places.mjs';
import { quality } from './quality.mjs';
import { loadTest, ourServer, peerServer } from './servers.mjs';

const THREADS = 2;
const PORT = 18_431;

/** Load time and resident bytes of llama-bench, which loads and computes one token. */
async function peerLoad(peer, file) {
  const args = ['-m', file, '-t', `${THREADS}`, '-p', '1', '-n', '0', '-r', '1', '--no-warmup', '-o', 'json'];
  const startedAt = performance.now();
  const child = spawn(peer.tool('llama-bench'), args, { stdio: ['ignore', 'pipe', 'ignore'] });
  let resident = 0;
  const watch = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      const kib = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0);
      resident = Math.max(resident, kib * 1_024); // a process that has ended shows none
    } catch {
      // ended since
    }
  }, 20);
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  await new Promise((resolve) => child.once('close', resolve));
  clearInterval(watch);
  const [
    {
      samples_ns: [computedNs],
    },
  ] = JSON.parse(output);
  return { loadMs: [performance.now() - startedAt - computedNs / 1e6], resident: [resident] };
}

/** Closing ends a write of packed weights that has begun. */
async function ourLoad(file, isKept) {
  const ours = openOurs(file, THREADS, { isKept, env: { OPEN_AUTOGLM_CACHE: places.ownCache } });
  const { loadMs, residentBytes, isFromCache } = await ours.ask({ kind: 'memory' });
  await ours.close();
  return { loadMs, residentBytes, isFromCache };
}

async function ourFirstLoad(file) {
  const { loadMs, residentBytes } = await ourLoad(file, false);
  return { loadMs: [loadMs], resident: [residentBytes] };
}

/** With packed weights that an earlier load has left by its own decision. */
async function ourSecondLoad(file) {
  const { loadMs, residentBytes, isFromCache } = await ourLoad(file, true);
  if (!isFromCache) throw new Error(`${file}: the load before has left no packed weights`);
  return { loadMs: [loadMs], resident: [residentBytes] };
}

const loadPart = {
  id: '1b-load',
  threads: THREADS,
  titles: ['1B Q4_0 load, warm file (ms)', '1B Q4_0 second load (ms)', '1B Q4_0 resident after load (MB)'],
  async run({ peers, rounds, probe, note }) {
    const file = await modelFile('1b-q4_0');
    const llama = peers.find(({ name }) => name === LLAMA);
    const second = `${OURS}, second load`;
    await ourLoad(file, true);
    const subjects = [
      { name: OURS, measure: () => ourFirstLoad(file) },
      { name: second, measure: () => ourSecondLoad(file) },
      { name: LLAMA, measure: () => peerLoad(llama, file) },
    ];
    const done = await compare(subjects, { rounds, probe, note });
    const summary = summarize(done);
    const { loadMs, resident } = summary.figures;
    const { isVoid } = summary;
    const size = statSync(file).size;
    const row = (title, against, ours, theirs, bar) => ({
      title,
      against,
      ours,
      theirs,
      ratio: ours / theirs,
      bar,
      isVoid,
      isLower: true,
    });
    const [firstTitle, secondTitle, memoryTitle] = this.titles;
    const ours = Math.max(resident[OURS], resident[second]);
    const bars = [
      row(firstTitle, LLAMA, loadMs[OURS], loadMs[LLAMA], [1, 0.5]),
      row(secondTitle, LLAMA, loadMs[second], loadMs[LLAMA], [1, 0.5]),
      row(secondTitle, 'half a second', loadMs[second], 500, [1, 1]),
      row(memoryTitle, 'the file', ours / 1e6, size / 1e6, [1.3, 1.15]),
      row(memoryTitle, LLAMA, ours / 1e6, resident[LLAMA] / 1e6, null),
    ];
    return { id: this.id, threads: THREADS, ...summary, bars, rounds: done };
  },
};

function serverPart({ id, title, clients, requests, hasPrefix, speedBar, hasLatencyBars }) {
  return {
    id,
    threads: THREADS,
    titles: [title],
    async run({ peers, rounds, probe, note }) {
      const file = await modelFile('smollm2');
      const llama = peers.find(({ name }) => name === LLAMA);
      const measure = (start) => async () => {
        const server = await start();
        try {
          return await loadTest(server, { clients, requests, hasPrefix });
        } finally {
          await server.close();
        }
      };
      const options = { file, threads: THREADS, clients, port: PORT };
      const subjects = [
        { name: OURS, measure: measure(() => ourServer(options)) },
        { name: LLAMA, measure: measure(() => peerServer(llama, options)) },
      ];
      const done = await compare(subjects, { rounds, probe, note });
      const summary = summarize(done);
      const row = (what, figure, bar, isLower) => {
        const { [OURS]: ours, [LLAMA]: theirs } = summary.figures[figure];
        const against = 'llama-server';
        return {
          title: `${title}: ${what}`,
          against,
          ours,
          theirs,
          ratio: ours / theirs,
          bar,
          isVoid: summary.isVoid,
          isLower,
        };
      };
      const latencyBar = hasLatencyBars ? [1, 0.5] : null;
      const bars = [
        row('output tokens/s', 'speed', speedBar, false),
        row('first token p50 (ms)', 'firstMs', latencyBar, true),
        row('gap p99 (ms)', 'gapMs', latencyBar, true),
      ];
      return { id, threads: THREADS, ...summary, bars, rounds: done };
    },
  };
}

const qualityPart = {
  id: 'quality',
  threads: THREADS,
  titles: ['SmolLM2 Q4_1, mean KL to float32 of the same weights (nats)'],
  async run({ peers, probe, note }) {
    const file = await modelFile('smollm2');
    const llama = peers.find(({ name }) => name === LLAMA);
    const { ours, theirs, numPositions } = await quality(llama, { file, threads: THREADS, note });
    const row = {
      title: this.titles[0],
      against: LLAMA,
      ours,
      theirs,
      ratio: ours / theirs,
      bar: [1.05, 0.7],
      isVoid: false,
      isLower: true,
    };
    return {
      id: this.id,
      threads: THREADS,
      limits: await probe(),
      numRounds: 1,
      bars: [row],
      rounds: [],
      numPositions,
    };
  },
};

const server = (clients, requests, speedBar) =>
  serverPart({
    id: `server-${clients}`,
    title: `server, ${clients} client${clients === 1 ? '' : 's'}, 64 in / 64 out`,
    clients,
    requests,
    hasPrefix: false,
    speedBar,
    hasLatencyBars: true,
  });
const prefixed = (clients, requests, speedBar) =>
  serverPart({
    id: `prefix-${clients}`,
    title: `server, ${clients} clients, shared prefix of 512`,
    clients,
    requests,
    hasPrefix: true,
    speedBar,
    hasLatencyBars: false,
  });

export const WHOLE_PARTS = [
  loadPart,
  qualityPart,
  server(1, 6, [1.5, 2]),
  server(8, 3, [3, 5]),
  server(32, 2, [4, 7]),
  prefixed(8, 2, [6, 10]),
  prefixed(32, 1, [8, 15]),
];
