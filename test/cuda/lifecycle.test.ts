import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type ChildResult, runScript } from '../engine/child-process';
import { Fixture } from '../engine/engine-under-test';
import { CUDA_BINARY, FAKE_DRIVER } from './cuda-binary';

// Goal: what test/engine shows of the processor's addon holds for the one with CUDA code, with a driver and without: a
// process and its worker threads may end at any moment, and what is closed is given back.

const GPU = { OPEN_AUTOGLM_CUDA_DRIVER: FAKE_DRIVER };
const NO_GPU = { OPEN_AUTOGLM_CUDA_DRIVER: '/nonexistent/libcuda.so.1' };

/** For the script and, as SETUP, for its worker threads. A token takes some 40 ms, an endless answer 20 s. */
const setup = `
  const addonPath = ${JSON.stringify(CUDA_BINARY)};
  const openEngine = () => createEngine({ device: 'cuda', threads: 1 });
  const size = { contextLength: 512, kvCache: { memory: '4MiB' }, maxStepTokens: 64, maxConcurrency: 4 };
  const openModel = (engine, more = {}) => engine.loadModel({ source: SOURCE, ...size, ...more });
  /** Bytes of the GPU. A model has to stay: with the last one the driver's context ends, and frees what was forgotten. */
  const taken = () => {
    const { freeBytes, totalBytes } = require(addonPath).gpuMemory(0, process.env.OPEN_AUTOGLM_CUDA_DRIVER);
    return totalBytes - freeBytes;
  };
`;

function run(script: string, env: Readonly<Record<string, string>> = GPU): Promise<ChildResult> {
  const text = `${setup}\nconst SETUP = PRELUDE + ${JSON.stringify(setup)};\n${script}`;
  return runScript(process.execPath, text, { source: Fixture.q4, env });
}

const ended = (code: number, stdout: string): ChildResult => ({ code, signal: null, stdout, stderr: '' });

/** Ends worker threads while they load, prefill or decode, and some at once. */
const endWorkers = (body: string, count: number): string => `
  const { Worker } = require('node:worker_threads');
  let numEnded = 0;
  const runOne = (i) => new Promise((resolve, reject) => {
    const worker = new Worker(SETUP + ${JSON.stringify(body)}, { eval: true });
    let numTokens = 0;
    worker.on('error', reject);
    worker.on('exit', () => { numEnded += 1; resolve(); });
    if (i % 4 === 0) setTimeout(() => worker.terminate(), 10 * i);
    worker.on('message', (message) => {
      if (message === 'token') numTokens += 1;
      if ([true, message === 'open', numTokens === 1, numTokens === 5][i % 4]) worker.terminate();
    });
  });
  const endAll = () => Promise.all([0, 1].map(async (lane) => {
    for (let i = lane; i < ${count}; i += 2) await runOne(i);
  }));
`;

function terminateWorkers(rounds: number, env: Readonly<Record<string, string>>, driver: string[]): unknown {
  const script = join(__dirname, '..', 'engine', 'terminate-workers.cjs');
  const args = [script, String(rounds), ...driver];
  const settings = { env: { ...process.env, ...env, OPEN_AUTOGLM_BINARY: CUDA_BINARY }, timeout: 100_000 };
  return JSON.parse(execFileSync(process.execPath, args, { ...settings, encoding: 'utf8' }));
}

/** The addon of the main thread and of four worker threads at once; one that ends leaves it to the others. */
const REQUIRED_OFTEN = `
  const { Worker } = require('node:worker_threads');
  const addon = require(addonPath);
  const body = SETUP + \`
    const { status } = require(addonPath).describeGpus(process.env.OPEN_AUTOGLM_CUDA_DRIVER);
    require('node:worker_threads').parentPort.postMessage(status);
  \`;
  const one = () => new Promise((resolve, reject) => {
    let status = 'nothing';
    const worker = new Worker(body, { eval: true });
    worker.on('message', (message) => { status = message; });
    worker.on('error', reject);
    worker.on('exit', () => resolve(status));
  });
  (async () => {
    const found = new Set();
    for (let round = 0; round < 3; round += 1) for (const each of await Promise.all([one(), one(), one(), one()])) found.add(each);
    found.add(addon.describeGpus(process.env.OPEN_AUTOGLM_CUDA_DRIVER).status);
    process.stdout.write([...found].join());
  })();`;

describe('with a GPU', () => {
  test('a script ends by itself after its last await, also without closing anything', async () => {
    const script = `(async () => {
      const model = await openModel(await openEngine());
      process.stdout.write(String((await model.generate({ ...endless, maxTokens: 3 })).tokens.length));
    })();`;
    expect(await run(script)).toEqual(ended(0, '3'));
  });

  test.each(['resolve', 'parse', 'weights', 'ready'])(
    'a script may call process.exit in phase %s of loading',
    async (phase) => {
      const script = `(async () => {
        await openModel(await openEngine(), { onProgress: (p) => { if (p.phase === '${phase}') process.exit(3); } });
      })();`;
      expect(await run(script)).toEqual(ended(3, ''));
    },
  );

  test.each([
    ['in the turn of the first token', 'process.exit(7);'],
    ['in the middle of a stream', 'if (++seen === 6) process.exit(7);'],
    ['in the middle of a step', 'setTimeout(() => process.exit(7), 15);'],
  ])('a script may call process.exit %s', async (_when, statement) => {
    const script = `(async () => {
      const model = await openModel(await openEngine());
      const others = Array.from({ length: 3 }, (_, seed) => model.generate({ ...endless, seed }).result);
      let seen = 0;
      for await (const _ of model.generate(endless)) { ${statement} }
    })();`;
    expect(await run(script)).toEqual(ended(7, ''));
  });

  test('worker threads end while they work, and the GPU has all of its memory again', async () => {
    const body = `
      const { parentPort } = require('node:worker_threads');
      (async () => {
        const model = await openModel(await openEngine());
        parentPort.postMessage('open');
        for (let seed = 0; seed < 2; seed += 1) model.generate({ ...endless, seed }).result.catch(() => {});
        for await (const _ of model.generate(endless)) parentPort.postMessage('token');
      })();`;
    const script = `${endWorkers(body, 16)}
      (async () => {
        const engine = await openEngine();
        const model = await openModel(engine);
        const { tokens } = await model.generate({ ...endless, maxTokens: 3 });
        const before = taken();
        await endAll();
        const stays = taken() - before;
        await engine.close();
        process.stdout.write([numEnded, tokens.length, before > 4e6, stays, taken()].join(' '));
      })();`;
    expect(await run(script)).toEqual(ended(0, '16 3 true 0 0'));
  });

  // A step is under way when each is closed.
  test('20 models are loaded and closed, and neither memory of the GPU nor threads stay', async () => {
    const script = `
      const numThreads = () => require('node:fs').readdirSync('/proc/self/task').length;
      const turn = async (engine) => {
        const model = await openModel(engine);
        for await (const _ of model.generate(endless)) break;
        const bytes = taken();
        await model.close();
        return bytes;
      };
      (async () => {
        const lasting = await openEngine();
        await openModel(lasting);
        let engine = await openEngine();
        await turn(engine);
        const [threads, bytes] = [numThreads(), taken()];
        const loaded = new Set();
        for (let i = 0; i < 20; i += 1) {
          if (i % 2 === 1) { await engine.close(); engine = await openEngine(); }
          loaded.add(await turn(engine));
        }
        const found = { isLarger: loaded.size === 1 && [...loaded][0] > bytes + 4e6, stays: taken() - bytes };
        const hasMoreThreads = numThreads() > threads;
        await engine.close();
        await lasting.close();
        process.stdout.write(JSON.stringify({ ...found, hasMoreThreads, taken: taken() }));
      })();`;
    const expected = { isLarger: true, stays: 0, hasMoreThreads: false, taken: 0 };
    expect(await run(script)).toEqual(ended(0, JSON.stringify(expected)));
  });

  test('worker threads may end at any moment of a step', { timeout: 120_000 }, () => {
    expect(terminateWorkers(8, GPU, [FAKE_DRIVER])).toMatchObject({ rounds: 8, numWrong: 0 });
  });

  test('the addon is required by several threads', async () => {
    expect(await run(REQUIRED_OFTEN)).toEqual(ended(0, 'ready'));
  });
});

describe('without a driver', () => {
  test('worker threads are refused a GPU and end, and the same addon computes on the processor', async () => {
    // A second refusal is asked for before the thread is ended.
    const body = `
      const { parentPort } = require('node:worker_threads');
      (async () => {
        for (let i = 0; ; i += 1) {
          const { code } = await openEngine().catch((error) => error);
          if (code !== 'invalid_parameter') throw new Error('code ' + code);
          parentPort.postMessage(i === 0 ? 'open' : 'token');
        }
      })();`;
    const script = `${endWorkers(body, 16)}
      (async () => {
        await endAll();
        const engine = await createEngine({ threads: 1 });
        const { tokens } = await (await engine.loadModel(SOURCE)).generate({ ...endless, maxTokens: 3 });
        await engine.close();
        process.stdout.write([numEnded, tokens.length, engine.binary.path === addonPath].join(' '));
      })();`;
    const env = { ...NO_GPU, OPEN_AUTOGLM_BINARY: CUDA_BINARY };
    expect(await run(script, env)).toEqual(ended(0, '16 3 true'));
  });

  test.each([0, 5, 40, 90])(
    'a script may call process.exit %i ms after it asked for a GPU',
    async (delay) => {
      const script = `openEngine().catch(() => {}); setTimeout(() => process.exit(3), ${delay});`;
      expect(await run(script, NO_GPU)).toEqual(ended(3, ''));
    },
  );

  test('a script that catches nothing ends as any script that throws, with the reason', async () => {
    const { code, signal, stderr } = await run('openEngine();', NO_GPU);
    expect({ code, signal }).toEqual({ code: 1, signal: null });
    expect(stderr).toContain('libcuda.so.1');
  });

  test('worker threads may end at any moment of a step that the processor computes', () => {
    expect(terminateWorkers(32, NO_GPU, [])).toMatchObject({ rounds: 32, numWrong: 0 });
  });

  test('the addon is required by several threads', async () => {
    expect(await run(REQUIRED_OFTEN, NO_GPU)).toEqual(ended(0, 'library_missing'));
  });
});
