// What Node costs: the npm API beside our own engine driven by a C++ program, beside itself with a busy main thread, and beside
// node-llama-cpp; and how much of the memory bandwidth a decoding step uses, read in the same process.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../../scripts/run.mjs';
import { installPeer, PEER } from '../subjects.mjs';
import { describeModel } from './describe-model.mjs';
import { compare, median, summarize } from './frame.mjs';
import { openOurs } from './measure-part.mjs';
import { modelFile } from './models.mjs';
import { engineBench } from './native-tools.mjs';
import { OURS } from './parts.mjs';

const ENGINE_ALONE = 'our engine without Node';
const IDLE_MAIN = 'the same with an idle main thread';
const BUSY_MS = 15;
const THREADS = 2;
/** What a step may cost beside its products. */
const MAX_STEP_US = 60;
/** Below this share of the processors something else ran, and a bandwidth taken then says nothing. */
const MIN_CPU_SHARE = 0.98;

/** Compares this package with one other subject by one figure. */
async function compareOne({ id, title, against, bar }, subjects, context) {
  const rounds = await compare(subjects, context);
  const summary = summarize(rounds);
  const { [OURS]: ours, [against]: theirs } = summary.figures.decode;
  const row = { title, against, ours, theirs, ratio: ours / theirs, bar, isVoid: summary.isVoid };
  return { id, threads: THREADS, ...summary, bars: [row], rounds };
}

const decodeBy = (ask, question) => async () => ({ decode: [(await ask(question)).speed] });

function costPart({ id, title, model, tokens, bar }) {
  return {
    id,
    threads: THREADS,
    titles: [title],
    async run(context) {
      const file = await modelFile(model);
      const ours = openOurs(file, THREADS);
      const engine = engineBench(await describeModel(file), file, THREADS);
      const question = { kind: 'decode', tokens };
      await Promise.all([ours, engine].map((each) => each.ask(question)));
      const subjects = [
        { name: OURS, measure: decodeBy((asked) => ours.ask(asked), question) },
        { name: ENGINE_ALONE, measure: decodeBy((asked) => engine.ask(asked), question) },
      ];
      try {
        return await compareOne({ id, title, against: ENGINE_ALONE, bar }, subjects, context);
      } finally {
        await Promise.all([ours.close(), engine.close()]);
      }
    },
  };
}

const busyPart = {
  id: 'node-busy',
  threads: THREADS,
  titles: [`SmolLM2 decode, main thread busy ${BUSY_MS} ms at a time, half of the time`],
  async run(context) {
    const ours = openOurs(await modelFile('smollm2'), THREADS);
    const subjects = [
      {
        name: OURS,
        measure: decodeBy((asked) => ours.ask(asked), { kind: 'busyDecode', tokens: 128, busyMs: BUSY_MS }),
      },
      { name: IDLE_MAIN, measure: decodeBy((asked) => ours.ask(asked), { kind: 'decode', tokens: 128 }) },
    ];
    try {
      await subjects[1].measure();
      const named = { id: this.id, title: this.titles[0], against: IDLE_MAIN, bar: [0.82, 0.88] };
      return await compareOne(named, subjects, context);
    } finally {
      await ours.close();
    }
  },
};

const peerPart = {
  id: 'node-llama-cpp',
  threads: THREADS,
  titles: ['SmolLM2 decode batch 1 through the npm API'],
  async run(context) {
    installPeer();
    const file = await modelFile('smollm2');
    const ours = openOurs(file, THREADS);
    const theirs = () => {
      const args = [join(root, 'bench', 'pass.mjs'), PEER.name, 'decode', file, String(THREADS)];
      const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      if (status !== 0) throw new Error(`${PEER.name} ended with ${status}: ${stderr}`);
      return { decode: [JSON.parse(stdout.trim().split('\n').at(-1)).decode] };
    };
    const subjects = [
      { name: OURS, measure: decodeBy((asked) => ours.ask(asked), { kind: 'decode', tokens: 128 }) },
      { name: PEER.name, measure: theirs },
    ];
    try {
      await subjects[0].measure();
      const named = { id: this.id, title: this.titles[0], against: PEER.name, bar: [2.5, 3.5] };
      return await compareOne(named, subjects, context);
    } finally {
      await ours.close();
    }
  },
};

/** A decoding step without its products: what is left does not grow with the weights. */
const stepPart = {
  id: 'step-cost',
  threads: THREADS,
  titles: [
    'SmolLM2 decode batch 1, a step without its products (us)',
    'SmolLM2 decode batch 1, a step without any operation (us)',
  ],
  async run({ rounds, probe, note }) {
    const file = await modelFile('smollm2');
    const engine = engineBench(await describeModel(file), file, THREADS);
    try {
      const answers = { hollow: [], empty: [] };
      for (let round = 0; round <= rounds; round += 1) {
        for (const kind of Object.keys(answers)) {
          const { stepUs } = await engine.ask({ kind, tokens: 32 });
          if (round > 0) answers[kind].push(stepUs); // the first time warms up
        }
      }
      const bars = Object.values(answers).map((times, i) => {
        const ours = median(times);
        note(`  ${this.titles[i]}: ${times.map((us) => us.toFixed(1)).join(', ')}`);
        return {
          title: this.titles[i],
          against: 'the bar',
          ours,
          theirs: MAX_STEP_US,
          ratio: ours / MAX_STEP_US,
          bar: [1, 1],
          isVoid: false,
          isLower: true,
        };
      });
      return {
        id: this.id,
        threads: THREADS,
        limits: await probe(),
        numRounds: rounds,
        bars,
        rounds: [answers],
      };
    } finally {
      await engine.close();
    }
  },
};

/** Steps of decoding alternate with bare reads of the same arena on the same threads. */
function sweepPart({ id, title, model, threads, bar }) {
  return {
    id,
    threads,
    titles: [title],
    async run({ rounds, probe, note }) {
      const file = await modelFile(model);
      const engine = engineBench(await describeModel(file), file, threads);
      try {
        const answers = [];
        await engine.ask({ kind: 'sweep', tokens: 4 });
        for (let round = 0; round < rounds; round += 1)
          answers.push(await engine.ask({ kind: 'sweep', tokens: 24 }));
        const valid = answers.filter(({ cores }) => cores >= MIN_CPU_SHARE * threads);
        const used = valid.length > 0 ? valid : answers;
        const [stepMs, sweepMs] = ['stepMs', 'sweepMs'].map((key) =>
          median(used.map((answer) => answer[key])),
        );
        note(
          `  step ${stepMs.toFixed(2)} ms, sweep ${sweepMs.toFixed(2)} ms, ${valid.length} of ${rounds} rounds valid`,
        );
        const share = (100 * sweepMs) / stepMs;
        const against = 'a sweep of the same arena';
        const row = {
          title,
          against,
          ours: 1e3 / stepMs,
          theirs: 1e3 / sweepMs,
          share,
          bar,
          isVoid: valid.length === 0,
        };
        return { id, threads, limits: await probe(), numRounds: used.length, bars: [row], rounds: answers };
      } finally {
        await engine.close();
      }
    },
  };
}

export const NODE_PARTS = [
  peerPart,
  costPart({
    id: 'node-cost',
    title: 'SmolLM2 decode batch 1: cost of Node',
    model: 'smollm2',
    tokens: 128,
    bar: [0.9, 0.97],
  }),
  costPart({
    id: 'node-cost-1b',
    title: '1B Q4_0 decode batch 1: cost of Node',
    model: '1b-q4_0',
    tokens: 48,
    bar: [0.96, 0.99],
  }),
  busyPart,
  stepPart,
  sweepPart({
    id: '1b-sweep',
    title: '1B Q4_0 decode batch 1, share of bandwidth',
    model: '1b-q4_0',
    threads: 2,
    bar: [85, 93],
  }),
  sweepPart({
    id: '1b-sweep-thread',
    title: '1B Q4_0 decode batch 1, 1 thread, share of bandwidth',
    model: '1b-q4_0',
    threads: 1,
    bar: [85, 93],
  }),
];
