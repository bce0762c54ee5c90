import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LoadModelOptions, LogRecord, ModelInfo } from '../../lib/engine/types';
import { runScript } from './child-process';
import { runCli } from './cli-process';
import { createEngine, Fixture, PACKAGE } from './engine-under-test';

let folder: string;
let model: string;
let packed: string;
let savedCache: string | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'autoglm-packed-'));
  model = join(folder, 'tiny.gguf');
  packed = `${model}.fast.packed`;
  cpSync(Fixture.q4, model);
  utimesSync(model, 1000, 1000);
  savedCache = process.env.OPEN_AUTOGLM_CACHE;
  process.env.OPEN_AUTOGLM_CACHE = join(folder, 'cache');
});
afterEach(() => {
  if (savedCache === undefined) delete process.env.OPEN_AUTOGLM_CACHE;
  else process.env.OPEN_AUTOGLM_CACHE = savedCache;
  rmSync(folder, { recursive: true, force: true });
});

interface Loaded {
  readonly info: ModelInfo;
  readonly logits: Float32Array;
  readonly log: readonly LogRecord[];
}

type WeightCache = LoadModelOptions['weightCache'] | 'unsaid';

/** Loads, computes and closes; closing waits for a write. */
async function load(weightCache: WeightCache = { write: 'always' }): Promise<Loaded> {
  const log: LogRecord[] = [];
  const engine = await createEngine({ threads: 2, logger: (record) => log.push(record) });
  try {
    const options = weightCache === 'unsaid' || weightCache === undefined ? {} : { weightCache };
    const loaded = await engine.loadModel({ source: model, ...options });
    return { info: loaded.info, logits: await loaded.logits([5, 6, 7], { positions: [0, 2] }), log };
  } finally {
    await engine.close();
  }
}

const refusals = ({ info }: Loaded): string[] =>
  info.warnings.filter(({ code }) => code === 'packed_weights_refused').map(({ message }) => message);

const flip = (path: string, at: number): void => {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
};

describe('packed weights on disk', () => {
  test('give the same model, copied or shared, and cost nothing when they are not wanted', async () => {
    const first = await load();
    expect(first.info.isFromCache).toBe(false);
    expect(first.log.map(({ text }) => text)).toContainEqual(`packed weights kept in ${packed}`);
    for (const cache of [true, { share: true }]) {
      const again = await load(cache);
      expect(again.info.isFromCache).toBe(true);
      expect(again.info.warnings).toEqual([]);
      expect(again.logits).toEqual(first.logits);
    }
    flip(packed, statSync(packed).size - 100);
    const without = await load(false);
    expect(without.info.isFromCache).toBe(false);
    expect(without.info.warnings).toEqual([]);
    expect(without.logits).toEqual(first.logits);
  });

  test('are not written for a model that packs in no time', async () => {
    await load(true);
    expect(readdirSync(folder)).toEqual(['tiny.gguf']);
  });

  test.each<[string, RegExp, () => void]>([
    ['with a flipped bit', /section 0 does not match its checksum/, () => flip(packed, 65_536 + 12_345)],
    ['cut short', /has \d+ bytes, expected/, () => truncateSync(packed, statSync(packed).size - 1)],
    ['of another version', /has format version 0/, () => flip(packed, 8)],
    ['of another model that took this name', /made from other files/, () => cpSync(Fixture.q8, model)],
    [
      'of a model of the same size and time with other weights',
      /made from other weights/,
      () => {
        const bytes = readFileSync(model);
        // The second half of the file holds nothing but weights.
        writeFileSync(
          model,
          bytes.map((byte, i) => (i > bytes.length / 2 && i % 2 === 0 ? byte ^ 1 : byte)),
        );
        utimesSync(model, 1000, 1000);
      },
    ],
  ])('%s are refused aloud, made anew, and right the next time', async (_name, reason, damage) => {
    await load();
    damage();
    const truth = await load(false);
    const refused = await load(true);
    expect(refused.info.isFromCache).toBe(false);
    expect(refusals(refused)).toEqual([expect.stringMatching(reason)]);
    expect(refused.log.filter(({ level }) => level === 'warn').map(({ text }) => text)).toEqual([
      expect.stringMatching(reason),
    ]);
    expect(refused.logits).toEqual(truth.logits);
    const again = await load(true);
    expect(again.info.isFromCache).toBe(true);
    expect(refusals(again)).toEqual([]);
    expect(again.logits).toEqual(truth.logits);
  });

  test('that are larger than the bound are not kept, with a warning', async () => {
    const { log } = await load({ write: 'always', maxBytes: 1000 });
    expect(log.filter(({ level }) => level === 'warn').map(({ text }) => text)).toEqual([
      expect.stringMatching(/packed weights are not kept: \d+ bytes exceed the 1000/),
    ]);
    expect(existsSync(packed)).toBe(false);
  });

  test('that nowhere can be written are not kept, with a warning', async () => {
    writeFileSync(join(folder, 'cache'), 'a file where a folder should be');
    const long = join(folder, `${'n'.repeat(245)}.gguf`); // beside it their name would be too long
    cpSync(model, long);
    model = long;
    const { log, logits } = await load();
    expect(log.filter(({ level }) => level === 'warn').map(({ text }) => text)).toEqual([
      expect.stringMatching(/packed weights are not kept: ENOTDIR/),
    ]);
    expect(logits.length).toBeGreaterThan(0);
  });

  test('are off where the environment says so, and the caller does not', async () => {
    process.env.OPEN_AUTOGLM_WEIGHT_CACHE = 'off';
    try {
      await load();
      expect(readdirSync(folder)).toContain('tiny.gguf.fast.packed');
      expect((await load('unsaid')).info.isFromCache).toBe(false);
      expect((await load(true)).info.isFromCache).toBe(true);
      process.env.OPEN_AUTOGLM_WEIGHT_CACHE = 'sometimes';
      await expect(load('unsaid')).rejects.toMatchObject({
        code: 'invalid_parameter',
        message: expect.stringContaining('OPEN_AUTOGLM_WEIGHT_CACHE'),
      });
    } finally {
      delete process.env.OPEN_AUTOGLM_WEIGHT_CACHE;
    }
  });

  // Goal: sharing is the kernel's, not a copy that looks like it.
  test.skipIf(process.platform !== 'linux')('are mapped and shared where that is asked for', async () => {
    await load();
    for (const [share, mappings] of [
      [false, 0],
      [true, 1],
    ] as const) {
      const engine = await createEngine({ threads: 2 });
      const { info } = await engine.loadModel({ source: model, weightCache: { share } });
      const lines = readFileSync('/proc/self/maps', 'utf8').split('\n');
      await engine.close();
      expect(info.isFromCache).toBe(true);
      const mapped = lines.filter((line) => line.endsWith(packed));
      expect(mapped).toHaveLength(mappings);
      for (const line of mapped) expect(line).toContain(' r--s ');
    }
  });

  test('serve processes that load and write at once: each computes the same', async () => {
    const { logits } = await load(false);
    const script = `
      (async () => {
        for (let i = 0; i < 3; i += 1) {
          const warnings = [];
          const engine = await createEngine({ threads: 2, logger: (record) => {
            if (record.level === 'warn') warnings.push(record.text);
          } });
          const model = await engine.loadModel({
            source: SOURCE, weightCache: { write: 'always', share: i === 1 },
          });
          const logits = await model.logits([5, 6, 7], { positions: [0, 2] });
          await engine.close();
          console.log(JSON.stringify({ warnings, logits: Buffer.from(logits.buffer).toString('hex') }));
        }
      })();`;
    const children = await Promise.all(
      [1, 2].map(() => runScript(process.execPath, script, { source: model })),
    );
    const lines = children.flatMap(({ stdout }) => stdout.trim().split('\n'));
    const hex = Buffer.from(logits.buffer).toString('hex');
    expect(lines.map((line) => JSON.parse(line))).toEqual(Array(6).fill({ warnings: [], logits: hex }));
    expect(readdirSync(folder).filter((name) => name.startsWith('tiny'))).toEqual([
      'tiny.gguf',
      'tiny.gguf.fast.packed',
    ]);
  });

  test('are told of, listed and removed by the command line', async () => {
    const env = { OPEN_AUTOGLM_CACHE: join(folder, 'cache') };
    expect((await runCli(['cache', 'ls'], '', env)).stderr).toContain('No packed weights are kept.');
    await load();
    const listed = await runCli(['cache', 'ls'], '', env);
    expect(listed.stdout).toContain(packed);
    expect(JSON.parse((await runCli(['cache', 'ls', '--json'], '', env)).stdout)).toEqual([
      {
        path: packed,
        bytes: statSync(packed).size,
        lastUsed: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
        model,
        precision: 'fast',
      },
    ]);
    const other = await runCli(['cache', 'rm', join(folder, 'other.gguf')], '', env);
    expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining('no packed weights are kept') });
    expect(await runCli(['cache', 'rm', model], '', env)).toMatchObject({ code: 0, stdout: '' });
    expect(readdirSync(folder).filter((name) => name.startsWith('tiny'))).toEqual(['tiny.gguf']);
    await load();
    expect((await runCli(['cache', 'rm'], '', env)).stderr).toContain('or --all');
    const removed = await runCli(['cache', 'rm', '--all', '--json'], '', env);
    expect(JSON.parse(removed.stdout)).toMatchObject([{ path: packed }]);
    expect(existsSync(packed)).toBe(false);
  });

  // Method: the shell bounds the size of files, which a process meets as it meets a full disk, in the middle of writing.
  test('for which the disk is too small are not kept, with a warning, and leave nothing behind', () => {
    const script = `
      const { createEngine } = require(${JSON.stringify(PACKAGE)});
      (async () => {
        const engine = await createEngine({ threads: 2, logger: ({ level, text }) => {
          if (level === 'warn') process.stdout.write(text);
        } });
        await engine.loadModel({ source: ${JSON.stringify(model)}, weightCache: { write: 'always' } });
        await engine.close();
      })();`;
    const { stdout, stderr, status } = spawnSync(
      '/bin/sh',
      ['-c', 'ulimit -f 100; exec "$0" -e "$1"', process.execPath, script],
      { encoding: 'utf8' },
    );
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toMatch(/packed weights are not kept: .*(cannot take \d+ bytes|cannot be written)/);
    expect(readdirSync(folder).sort()).toEqual(
      ['cache', 'tiny.gguf'].filter((name) => existsSync(join(folder, name))),
    );
  });
});
