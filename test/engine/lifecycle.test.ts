import { rmSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type ChildResult, NODES, runScript } from './child-process';
import { stretchedFixture } from './engine-under-test';

const ended = (code: number, stdout: string): ChildResult => ({ code, signal: null, stdout, stderr: '' });

describe.each(NODES)('a script run by %s', (node) => {
  test('ends by itself after its last await, also without closing anything', async () => {
    const script = `(async () => {
      const model = await loadModel(SOURCE);
      const { tokens } = await model.generate({ ...endless, maxTokens: 10 });
      process.stdout.write(String(tokens.length));
    })();`;
    expect(await runScript(node, script)).toEqual(ended(0, '10'));
  });

  test('is kept alive by what it awaits, and by nothing else', async () => {
    const script = `(async () => {
      const engine = await createEngine({ threads: 1 });
      const model = await engine.loadModel(SOURCE);
      const kept = model.generate({ ...endless, maxTokens: 400 });
      kept.result.then(({ tokens }) => process.stdout.write(String(tokens.length)));
      const counted = model.score([1, 2, 3]).then((scores) => process.stdout.write(scores.length + ' '));
      await counted;
    })();`;
    expect(await runScript(node, script)).toEqual(ended(0, '2 400'));
  });

  test('ends although engines were dropped that nobody closed, and those that were collected are gone', async () => {
    const script = `
      require('node:v8').setFlagsFromString('--expose-gc');
      const gc = require('node:vm').runInNewContext('gc');
      const threads = () => require('node:fs').readdirSync('/proc/self/task');
      const engines = [];
      const use = async () => {
        const engine = await createEngine({ threads: 2 });
        engines.push(engine); // or the first could be gone before the last is there
        const model = await engine.loadModel(SOURCE);
        await model.generate({ ...endless, maxTokens: 5 });
      };
      (async () => {
        await require('node:fs/promises').stat('.'); // starts Node's own pool
        const before = new Set(threads()); // one of Node's own may end later: a difference of counts says little
        const numNew = () => threads().filter((thread) => !before.has(thread)).length;
        for (let i = 0; i < 3; i += 1) await use();
        const hasGrown = numNew() >= 3 * 3;
        engines.length = 0;
        while (numNew() > 0) { gc(); await sleep(20); }
        process.stdout.write(JSON.stringify({ hasGrown }));
      })();`;
    expect(await runScript(node, script)).toEqual(ended(0, '{"hasGrown":true}'));
  });

  test('ends while a generation is paused that nobody reads any more', async () => {
    const source = stretchedFixture();
    const script = `(async () => {
      const model = await loadModel(SOURCE);
      const reader = model.generate(endless)[Symbol.asyncIterator]();
      await reader.next();
      process.on('exit', () => process.stdout.write('ended'));
    })();`;
    expect(await runScript(node, script, { source })).toEqual(ended(0, 'ended'));
    rmSync(source, { recursive: true });
  });

  test.each([
    ['in the middle of a stream', 'if (++seen === 20) process.exit(7);'],
    ['in the turn of the first token', 'process.exit(7);'],
  ])('may call process.exit %s', async (_when, statement) => {
    const script = `(async () => {
      const model = await loadModel(SOURCE);
      const others = Array.from({ length: 8 }, (_, seed) => model.generate({ ...endless, seed }).result);
      let seen = 0;
      for await (const _ of model.generate(endless)) { ${statement} }
    })();`;
    expect(await runScript(node, script)).toEqual(ended(7, ''));
  });

  test.each(['resolve', 'parse', 'weights', 'ready'])(
    'may call process.exit in phase %s of loading',
    async (phase) => {
      const script = `loadModel({ source: SOURCE, onProgress: (p) => { if (p.phase === '${phase}') process.exit(3); } });`;
      expect(await runScript(node, script)).toEqual(ended(3, ''));
    },
  );

  test('that throws in mid-stream ends as any script that throws', async () => {
    const script = `(async () => {
      const model = await loadModel(SOURCE);
      for await (const _ of model.generate(endless)) setImmediate(() => { throw new Error('mine'); });
    })();`;
    const { code, signal, stderr } = await runScript(node, script);
    expect({ code, signal }).toEqual({ code: 1, signal: null });
    expect(stderr).toContain('mine');
  });

  test('may close its engine in a callback, and use another', async () => {
    const script = `(async () => {
      const engine = await createEngine();
      const model = await engine.loadModel(SOURCE);
      let closing;
      try {
        for await (const _ of model.generate(endless)) closing ??= engine.close();
      } catch (error) { process.stdout.write(error.code); }
      await closing;
      await using_another();
      async function using_another() {
        const other = await loadModel(SOURCE);
        process.stdout.write(' ' + (await other.generate({ ...endless, maxTokens: 3 })).tokens.length);
      }
    })();`;
    expect(await runScript(node, script)).toEqual(ended(0, 'engine_closed 3'));
  });

  // A model has 0.5 MB of weights and 1 MB of KV cache: one that stayed would show.
  test.each([
    [
      'engines',
      'await use(await engine.loadModel(SOURCE)); await engine.close(); engine = await createEngine();',
    ],
    ['models', 'const model = await engine.loadModel(SOURCE); await use(model); await model.close();'],
  ])('creates and closes %s without growing', { timeout: 150_000 }, async (_what, turn) => {
    const script = `(async () => {
      let engine = await createEngine({ threads: 2 });
      const use = (model) => model.generate({ ...endless, maxTokens: 500 });
      for (let i = 0; i < 10; i += 1) { ${turn} }
      const before = process.memoryUsage.rss();
      for (let i = 0; i < 30; i += 1) { ${turn} }
      process.stdout.write(String((process.memoryUsage.rss() - before) / 30));
    })();`;
    const { code, stdout, stderr } = await runScript(node, script, { timeoutMs: 140_000 });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(Number(stdout)).toBeLessThan(1_200_000);
  });

  // Each worker is ended at a moment of its own: while it loads, prefills, decodes, or some time later.
  test('creates 200 worker threads and ends each while it works', { timeout: 300_000 }, async () => {
    const script = `
      const { Worker } = require('node:worker_threads');
      const body = PRELUDE + \`
        const { parentPort } = require('node:worker_threads');
        (async () => {
          const engine = await createEngine({ threads: 1 });
          const model = await engine.loadModel(SOURCE);
          parentPort.postMessage('loaded');
          for (let seed = 0; seed < 3; seed += 1) model.generate({ ...endless, seed }).result.catch(() => {});
          for await (const _ of model.generate(endless)) parentPort.postMessage('token');
        })();
      \`;
      let numEnded = 0;
      const runOne = (i) => new Promise((resolve, reject) => {
        const worker = new Worker(body, { eval: true });
        let numTokens = 0;
        worker.on('error', reject);
        worker.on('exit', () => { numEnded += 1; resolve(); });
        if (i % 5 === 0) setTimeout(() => worker.terminate(), i);
        worker.on('message', (message) => {
          if (message === 'token') numTokens += 1;
          const isDue = [true, message === 'loaded', numTokens === 1, numTokens === 30, message === 'loaded'][i % 5];
          if (isDue) setTimeout(() => worker.terminate(), i % 5 === 4 ? i % 7 : 0);
        });
      });
      (async () => {
        const lanes = [0, 1, 2, 3].map(async (lane) => {
          for (let i = lane; i < 200; i += 4) await runOne(i);
        });
        await Promise.all(lanes);
        const model = await loadModel(SOURCE);
        const { tokens } = await model.generate({ ...endless, maxTokens: 3 });
        process.stdout.write(numEnded + ' ' + tokens.length);
      })();`;
    expect(await runScript(node, script, { timeoutMs: 290_000 })).toEqual(ended(0, '200 3'));
  });
});
