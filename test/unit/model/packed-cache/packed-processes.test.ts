import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PackedCache } from '../../../../lib/model/packed-cache/packed-cache';
import { compileSource, MODULES } from '../source/compiled-source';
import { isolateCaches } from '../source/isolated-caches';

// Goal: nothing that a process does or fails to do leaves a file that another one takes for whole.
// Method: child processes keep weights of 4 MiB with the library's own code and are killed in the middle.

const caches = isolateCaches();
const BYTES = 4 << 20;
const IDENTITY = Buffer.alloc(32, 7);
let compiled: string;
let modulePath: string;
let model: string;
beforeAll(() => {
  compiled = mkdtempSync(join(tmpdir(), 'open-autoglm-compiled-'));
  modulePath = compileSource(compiled, 'packed-cache/packed-cache');
});
afterAll(() => rmSync(compiled, { recursive: true, force: true }));
beforeEach(() => {
  model = join(caches.folder, 'tiny.gguf');
  writeFileSync(model, 'a model');
});

/** Keeps weights of one value; `dies` names the moment of a SIGKILL. Prints the path, or null. */
function startChild(value: number, dies: 'half way' | 'before the rename' | 'never'): Promise<string> {
  const script = `
    const { PackedCache } = require(${JSON.stringify(modulePath)});
    const fs = require('node:fs');
    const die = () => process.kill(process.pid, 'SIGKILL');
    const write = async (path, offset) => {
      const handle = fs.openSync(path, 'r+');
      const weights = Buffer.alloc(${BYTES}, ${value});
      fs.writeSync(handle, weights, 0, ${BYTES / 2}, offset);
      if (${JSON.stringify(dies)} === 'half way') die();
      fs.writeSync(handle, weights, ${BYTES / 2}, ${BYTES / 2}, offset + ${BYTES / 2});
      fs.closeSync(handle);
      if (${JSON.stringify(dies)} === 'before the rename') die();
      return Int32Array.of(${value}, 0);
    };
    (async () => {
      const cache = await PackedCache.at(${JSON.stringify(model)}, 'fast', Buffer.alloc(32, 7));
      console.log(await cache.keep({ sample: '0123456789abcdef', byteLength: ${BYTES}, maxBytes: 2 ** 30,
        isReplacing: false, signal: new AbortController().signal, write }));
    })();`;
  const child = spawn(process.execPath, ['-e', script], { env: { ...process.env, ...MODULES } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      output += text;
    });
  }
  return new Promise((resolve) => {
    child.once('close', (code, signal) => resolve(signal ?? `${code} ${output.trim()}`));
  });
}

const find = async () => (await PackedCache.at(model, 'fast', IDENTITY)).find(false);
const names = (): string[] => readdirSync(caches.folder).filter((name) => name.startsWith('tiny'));

describe('processes that keep packed weights', () => {
  test.each(['half way', 'before the rename'] as const)(
    'killed %s leave nothing that counts, and the next one clears it away',
    async (moment) => {
      expect(await startChild(1, moment)).toBe('SIGKILL');
      expect(names().filter((name) => name.endsWith('.part'))).toHaveLength(1);
      expect(await find()).toEqual({ packed: null, refusals: [] });
      expect(await startChild(2, 'never')).toBe(`0 ${model}.fast.packed`);
      expect(names()).toEqual(['tiny.gguf', 'tiny.gguf.fast.packed']);
      expect((await find()).packed?.checksums).toEqual(Int32Array.of(2, 0));
    },
  );

  test('at the same time leave one whole file, of one of them', async () => {
    const outputs = await Promise.all([1, 2, 3].map((value) => startChild(value, 'never')));
    expect(outputs.toSorted()).toEqual([`0 ${model}.fast.packed`, '0 null', '0 null']);
    expect(names()).toEqual(['tiny.gguf', 'tiny.gguf.fast.packed']);
    const { packed } = await find();
    const value = packed?.checksums[0] ?? 0;
    expect([1, 2, 3]).toContain(value);
    const weights = readFileSync(`${model}.fast.packed`).subarray(packed?.offset);
    expect(weights.equals(Buffer.alloc(BYTES, value))).toBe(true);
  });
});
