import { describe, expect, test } from 'vitest';
import { type ChildResult, runScript } from './child-process';
import { Fixture } from './engine-under-test';

// Goal: no turn of the host's event loop costs more than 20 ms of its processor time, while loading and generating.
// Method: the time the main thread has run, which the system counts per thread, is read once per turn. Wall time would
// say nothing: there are as many compute threads as processors.
const MAX_TURN_MS = 20;

const WATCH = `
  const { readFileSync } = require('node:fs');
  const file = '/proc/self/task/' + process.pid + '/schedstat';
  const cpuMs = () => Number(readFileSync(file, 'utf8').split(' ')[0]) / 1e6;
  const turns = { load: [], generate: [] };
  let phase = 'load', last = null;
  const tick = () => {
    const now = cpuMs();
    if (last !== null) turns[phase]?.push(now - last);
    last = now;
    if (phase !== 'over') setTimeout(tick, 0);
  };
  const worst = (list) => list.reduce((a, b) => Math.max(a, b), 0);
`;

interface Turns {
  readonly load: number;
  readonly generate: number;
  readonly numTurns: number;
}

function turnsOf({ code, stdout, stderr }: ChildResult): Turns {
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as Turns;
}

const script = (prompt: string, count: number): string => `${WATCH}
  (async () => {
    tick();
    const engine = await createEngine({ threads: 2 });
    const model = await engine.loadModel(SOURCE);
    phase = 'generate';
    await Promise.all(Array.from({ length: ${count} }, async (_, seed) => {
      const run = model.generate({ ${prompt}, seed, maxTokens: 100, ignoreEos: true, stop: ['never said'], logprobs: 5 });
      for await (const _ of run) continue;
    }));
    phase = 'over';
    process.stdout.write(JSON.stringify({
      load: worst(turns.load), generate: worst(turns.generate), numTurns: turns.load.length + turns.generate.length,
    }));
  })();`;

describe.skipIf(process.platform !== 'linux')('the main thread', () => {
  test('of a host with a small model and 32 readers has short turns', async () => {
    const turns = turnsOf(await runScript(process.execPath, script("prompt: 'Pages hold tokens.'", 32)));
    expect(turns.numTurns).toBeGreaterThan(20);
    expect(turns.load).toBeLessThan(MAX_TURN_MS);
    expect(turns.generate).toBeLessThan(MAX_TURN_MS);
  });

  test('of a host with a vocabulary of 49,000 tokens has short turns', async () => {
    const source = 'smollm2-135m-instruct';
    const chat = "messages: [{ role: 'user', content: 'Why is the sky blue?' }]";
    const turns = turnsOf(await runScript(process.execPath, script(chat, 4), { source }));
    expect(turns.load).toBeLessThan(MAX_TURN_MS);
    expect(turns.generate).toBeLessThan(MAX_TURN_MS);
  });

  test('sleeps, and so does everything else, when nothing runs', async () => {
    const result = await runScript(
      process.execPath,
      `(async () => {
        const model = await (await createEngine({ threads: 2 })).loadModel(SOURCE);
        await model.generate({ ...endless, maxTokens: 100 });
        await sleep(500);
        const before = process.cpuUsage();
        await sleep(2000);
        const { user, system } = process.cpuUsage(before);
        process.stdout.write(String((user + system) / 1000));
      })();`,
      { source: Fixture.float32 },
    );
    expect({ code: result.code, stderr: result.stderr }).toEqual({ code: 0, stderr: '' });
    expect(Number(result.stdout)).toBeLessThan(20); // of 2,000 ms: less than 1 %
  });
});
