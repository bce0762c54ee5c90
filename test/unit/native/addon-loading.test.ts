import { mkdirSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NativeTensor } from '../../../lib/native/addon';
import type { WeightSource } from '../../../lib/native/decoder-spec';
import { loadAddon } from '../../../lib/native/loader';
import { float64Logits } from './float64-decoder';
import { type LoadChanges, TestEngine, TestModel } from './step-driver';
import { TinyModel, tinySpec } from './tiny-model';

const { addon } = loadAddon();

let engine: TestEngine;
let tiny: TinyModel;
beforeEach(() => {
  engine = new TestEngine(addon);
  tiny = new TinyModel(tinySpec());
});
afterEach(async () => {
  await engine.close();
  tiny.remove();
});

describe('loading', () => {
  const load = (changes: LoadChanges): Promise<TestModel> => engine.load(tiny, changes);
  const withTensor = (role: string, change: Partial<WeightSource>): readonly NativeTensor[] =>
    tiny.tensors.map((tensor) =>
      tensor.role === role ? { role, source: { ...tensor.source, ...change } } : tensor,
    );

  test('reports progress that grows up to the total', async () => {
    const calls: [number, number][] = [];
    const request = TestModel.requestFor(tiny);
    await addon.loadModel(engine.handle, request, (loaded, total) => calls.push([loaded, total]));
    const total = tiny.files[0]?.size ?? 0;
    expect(calls.length).toBeGreaterThan(0);
    for (const [i, [loaded, of]] of calls.entries()) {
      expect(of).toBe(total);
      expect(loaded).toBeGreaterThanOrEqual(calls[i - 1]?.[0] ?? 0);
      expect(loaded).toBeLessThanOrEqual(total);
    }
  });

  test('states the memory of weights, pages and scratch, and each layout', async () => {
    const model = await load({ numPages: 40 });
    const { weightBytes, kvBytes, scratchBytes, layouts } = addon.modelMemory(model.handle);
    const fileBytes = tiny.files[0]?.size ?? 0;
    expect(weightBytes).toBeGreaterThanOrEqual(fileBytes);
    expect(weightBytes).toBeLessThan(1.5 * fileBytes);
    // Keys and values of 16 tokens, 2 heads of 16 floats, 2 layers.
    expect(kvBytes).toBe(40 * 2 * (2 * 16 * 2 * 16 * 4));
    expect(scratchBytes).toBeGreaterThan(0);
    expect(new Set(Object.keys(layouts))).toEqual(new Set(tiny.tensors.map(({ role }) => role)));
    expect(new Set(Object.values(layouts))).toEqual(new Set(['f32']));
  });

  /** Logits of a model whose `role` is stored as `bytes` in a file of its own. */
  async function logitsWith(
    role: string,
    bytes: Uint8Array,
    change: Partial<WeightSource>,
  ): Promise<Float32Array> {
    const path = join(tiny.folder, 'extra.bin');
    writeFileSync(path, bytes);
    utimesSync(path, 1, 1);
    const slices = [{ file: 1, offset: 0, byteLength: bytes.byteLength }];
    const files = [...tiny.files, { path, size: bytes.byteLength, mtimeMs: 1000 }];
    return logitsOf({ files, tensors: withTensor(role, { slices, ...change }) });
  }

  const logitsOf = async (changes: LoadChanges): Promise<Float32Array> =>
    (await load(changes)).logits([1, 2, 3, 4, 5], [0, 4]);

  const QUERY = 'layers.1.attention.q';
  const permutation = (length: number): Int32Array =>
    Int32Array.from({ length }, (_, row) => (row * 13 + 5) % length);

  test('reads a tensor from slices that lie apart', async () => {
    const { offset = 0, byteLength = 0 } =
      tiny.tensors.find((tensor) => tensor.role === QUERY)?.source.slices[0] ?? {};
    const slices = [0, 10 * 256, 11 * 256].map((start, i, starts) => {
      const end = starts[i + 1] ?? byteLength;
      return { file: 0, offset: offset + start, byteLength: end - start };
    });
    expect(await logitsOf({ tensors: withTensor(QUERY, { slices }) })).toEqual(await logitsOf({}));
    const swapped = [slices[1], slices[0], slices[2]] as WeightSource['slices'];
    expect(await logitsOf({ tensors: withTensor(QUERY, { slices: swapped }) })).not.toEqual(
      await logitsOf({}),
    );
  });

  test('reads a tensor that is stored transposed', async () => {
    const values = tiny.weights.get(QUERY) as Float32Array;
    const [rows, columns] = [values.length / 64, 64];
    const stored = new Float32Array(values.length);
    for (const [i, value] of values.entries()) stored[(i % columns) * rows + Math.floor(i / columns)] = value;
    const actual = await logitsWith(QUERY, new Uint8Array(stored.buffer), { isTransposed: true });
    expect(actual).toEqual(await logitsOf({}));
  });

  test.each([QUERY, `${QUERY}.bias`])('puts the rows of %s in order', async (role) => {
    tiny.remove();
    tiny = new TinyModel(tinySpec({}, [{}, { attention: { hasQkvBias: true } }]));
    const values = tiny.weights.get(role) as Float32Array;
    const rowOrder = permutation(64);
    const columns = values.length / 64;
    const stored = new Float32Array(values.length);
    for (const [row, from] of rowOrder.entries()) {
      stored.set(values.subarray(row * columns, (row + 1) * columns), from * columns);
    }
    expect(await logitsWith(role, new Uint8Array(stored.buffer), { rowOrder })).toEqual(await logitsOf({}));
  });

  // Neighbours of unequal layout are products of their own beside those that are stacked. The values are bfloat16
  // numbers, so that both ways of storing them hold the same.
  test.each(['k', 'v'])('computes the same when %s alone is stored in another format', async (name) => {
    const role = `layers.1.attention.${name}`;
    const values = tiny.weights.get(role) as Float32Array;
    const bits = new Uint32Array(values.buffer).map((word) => word & 0xffff0000);
    const expected = await logitsWith(role, new Uint8Array(bits.buffer), {});
    const halves = new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer);
    const actual = await logitsWith(role, halves, { format: 'bf16' });
    for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, 5);
  });

  test('reads big matrices in pieces, in any order of rows', async () => {
    tiny.remove();
    const vocabSize = 30_000; // 7.7 MB of float32: four pieces
    tiny = new TinyModel(tinySpec({ vocabSize }, [{}]));
    const expected = float64Logits(tiny.spec, tiny.weights, [1, 29_999, 3, 4, 5]);
    const model = await load({});
    const logits = await model.logits([1, 29_999, 3, 4, 5], [4]);
    const largest = Math.max(...(expected[4] ?? []).map(Math.abs));
    for (const [i, value] of logits.entries()) {
      expect(Math.abs(value - (expected[4]?.[i] as number)) / largest, `token ${i}`).toBeLessThan(1e-5);
    }
    const whole = await logitsOf({});
    const slices = [0, 9_001, 17_000].map((row, i, starts) => {
      const end = starts[i + 1] ?? vocabSize;
      return { file: 0, offset: row * 256, byteLength: (end - row) * 256 };
    });
    expect(tiny.tensors[0]?.role).toBe('embedding');
    expect(await logitsOf({ tensors: withTensor('embedding', { slices }) })).toEqual(whole);

    const values = tiny.weights.get('embedding') as Float32Array;
    const rowOrder = Int32Array.from({ length: vocabSize }, (_, row) => (row * 7919 + 11) % vocabSize);
    const stored = new Float32Array(values.length);
    for (const [row, from] of rowOrder.entries())
      stored.set(values.subarray(row * 64, (row + 1) * 64), from * 64);
    expect(await logitsWith('embedding', new Uint8Array(stored.buffer), { rowOrder })).toEqual(whole);
  });

  test.each<[string, string, () => void]>([
    [
      'has shrunk in the same millisecond',
      'model_file_changed',
      () => {
        const seconds = (tiny.files[0]?.mtimeMs ?? 0) / 1000;
        truncateSync(tiny.path, 100);
        utimesSync(tiny.path, seconds, seconds);
      },
    ],
    ['was touched', 'model_file_changed', () => utimesSync(tiny.path, 5, 5)],
    ['is gone', 'model_file_changed', () => rmSync(tiny.path)],
    [
      'became a directory',
      'invalid_model_file',
      () => {
        rmSync(tiny.path);
        mkdirSync(tiny.path);
      },
    ],
  ])('a file that %s fails with %s', async (_, code, change) => {
    const { files } = tiny;
    change();
    await expect(load({ files })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(tiny.path),
    });
  });

  test.each<[string, string, () => LoadChanges]>([
    [
      'a slice past the end of its file',
      'invalid_model_file',
      () => ({
        tensors: withTensor('embedding', { slices: [{ file: 0, offset: 1e6, byteLength: 97 * 64 * 4 }] }),
      }),
    ],
    [
      'a slice that is too short',
      'invalid_model_file',
      () => ({ tensors: withTensor('embedding', { slices: [{ file: 0, offset: 0, byteLength: 64 * 4 }] }) }),
    ],
    [
      'a shape that contradicts the spec',
      'invalid_model_file',
      () => ({ tensors: withTensor('embedding', { shape: [96, 64] }) }),
    ],
    ['a tensor that is missing', 'invalid_model_file', () => ({ tensors: tiny.tensors.slice(1) })],
    [
      'a tensor that nobody asked for',
      'invalid_parameter',
      () => ({ tensors: [...tiny.tensors, { ...(tiny.tensors[0] as NativeTensor), role: 'head' }] }),
    ],
    [
      'a role given twice',
      'invalid_parameter',
      () => ({ tensors: [...tiny.tensors, tiny.tensors[0] as NativeTensor] }),
    ],
    [
      'a row order of the wrong length',
      'invalid_parameter',
      () => ({ tensors: withTensor('embedding', { rowOrder: new Int32Array(3) }) }),
    ],
    [
      'a row order that leaves the tensor',
      'invalid_parameter',
      () => ({ tensors: withTensor('embedding', { rowOrder: new Int32Array(97).fill(97) }) }),
    ],
    [
      'a file that does not exist',
      'invalid_parameter',
      () => ({ tensors: withTensor('embedding', { slices: [{ file: 1, offset: 0, byteLength: 4 }] }) }),
    ],
    [
      'an unknown format',
      'invalid_parameter',
      () => ({ tensors: withTensor('embedding', { format: 'q9_k' as 'f32' }) }),
    ],
    ['no rows', 'invalid_parameter', () => ({ maxRows: 0 })],
    ['too many rows', 'invalid_parameter', () => ({ maxRows: 1025 })],
    [
      'a result buffer that is too small',
      'invalid_parameter',
      () => ({ results: [new Int32Array(9), new Int32Array(9)] }),
    ],
    [
      'a plan buffer that is no Int32Array',
      'invalid_parameter',
      () => ({ plans: [new Float32Array(99), 3] as never }),
    ],
    [
      'a vocabulary beyond reason',
      'invalid_parameter',
      () => ({ spec: { ...tiny.spec, vocabSize: 2 ** 30 } }),
    ],
    [
      'an epsilon that is no number',
      'invalid_parameter',
      () => ({ spec: { ...tiny.spec, finalNorm: { kind: 'rms', epsilon: Number.NaN } as never } }),
    ],
  ])('%s is refused with %s', async (_, code, changes) => {
    await expect(load(changes())).rejects.toMatchObject({ code });
  });

  test('names the field that is wrong', async () => {
    const layers = [{ ...tiny.spec.layers[0], norm: { kind: 'batch' } }] as never;
    await expect(load({ spec: { ...tiny.spec, layers } })).rejects.toMatchObject({
      message: 'expected request.spec.layers[0].norm.kind to be one of rms layer, got "batch"',
    });
  });

  test('a KV cache that no machine holds fails with out_of_memory', async () => {
    const wide = new TinyModel(tinySpec({}, [{ attention: { numKvHeads: 4, headDim: 256, valueDim: 256 } }]));
    await expect(engine.load(wide, { numPages: 2 ** 30 })).rejects.toMatchObject({ code: 'out_of_memory' });
    wide.remove();
  });

  test.each<[string, readonly [number, number][], RegExp]>([
    ['before the first layer', [[0, -1]], /stages\[0\]\.firstLayer to be an integer in 0\.\.1, got -1/],
    ['behind the last layer', [[0, 2]], /stages\[0\]\.firstLayer to be an integer in 0\.\.1, got 2/],
    ['within a layer', [[0, 0.5]], /stages\[0\]\.firstLayer/],
    [
      'where the one before begins',
      [
        [0, 1],
        [1, 1],
      ],
      /stages\[1\]\.firstLayer to be an integer in 2\.\.1/,
    ],
    [
      'on a device that has one',
      [
        [3, 0],
        [3, 1],
      ],
      /stages\[1\]\.index: expected a device that no stage before it has, got 3/,
    ],
    ['nowhere', [], /request\.device\.stages: expected at least one, got none/],
  ])('a stage %s is refused', async (_what, stages, message) => {
    const device = {
      library: null,
      stages: stages.map(([index, firstLayer]) => ({ index, firstLayer })),
    };
    await expect(load({ device })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringMatching(message),
    });
  });

  test('stops with aborted when its cancel word is set', async () => {
    const cancel = new Int32Array(new SharedArrayBuffer(4));
    Atomics.store(cancel, 0, 1);
    await expect(load({ cancel })).rejects.toMatchObject({ code: 'aborted' });
    expect((await (await load({})).submit({})).errorCode).toBeNull();
  });
});
