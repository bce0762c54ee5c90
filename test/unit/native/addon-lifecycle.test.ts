import { mkdirSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EngineHandle, ModelHandle, NativeTensor } from '../../../lib/native/addon';
import type { WeightSource } from '../../../lib/native/decoder-spec';
import { loadAddon } from '../../../lib/native/loader';
import { type LoadChanges, TestEngine, TestModel } from './step-driver';
import { TinyModel, tinySpec } from './tiny-model';

const { addon } = loadAddon();
const closed = expect.objectContaining({ code: 'engine_closed' });
const invalid = expect.objectContaining({ code: 'invalid_parameter' });

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

/** A step that takes a while: every row computes 128 positions. */
async function startLongStep(model: TestModel): Promise<void> {
  const tokens = new Array<number>(128).fill(3);
  void model.submit({
    admissions: [{ row: 0, tokens }],
    pageUpdates: model.pages(0, 128),
    entries: [{ row: 0, start: 0, count: 128 }],
  });
}

describe('closing', () => {
  test('a model twice, also at once, resolves; later calls throw engine_closed', async () => {
    const model = await engine.load(tiny);
    const both = Promise.all([model.close(), model.close()]);
    expect(() => addon.submitStep(model.handle, 0)).toThrow(closed);
    await both;
    await model.close();
    expect(() => addon.modelMemory(model.handle)).toThrow(closed);
    expect(() => addon.setOutput(model.handle, 1, null)).toThrow(closed);
    expect(() => addon.submitStep(model.handle, 0)).toThrow(closed);
  });

  test('an engine twice, also at once, resolves and closes its models', async () => {
    const model = await engine.load(tiny);
    await Promise.all([engine.close(), engine.close()]);
    await engine.close();
    expect(() => addon.submitStep(model.handle, 0)).toThrow(closed);
    await model.close();
    await expect(engine.load(tiny)).rejects.toMatchObject({ code: 'engine_closed' });
  });

  test('a model in mid-step drops its steps and calls nobody back', async () => {
    const model = await engine.load(tiny);
    const other = await engine.load(tiny);
    void startLongStep(model);
    void startLongStep(model);
    await model.close();
    const calls = engine.finished.length;
    expect((await other.submit({})).errorCode).toBeNull();
    expect(engine.finished.slice(calls)).toEqual([[other.handle, 0]]);
  });

  test('an engine in mid-step, 50 times, with queued steps of two models', async () => {
    for (let round = 0; round < 50; round += 1) {
      const own = new TestEngine(addon, 1 + (round % 3));
      const models = await Promise.all([own.load(tiny), own.load(tiny)]);
      for (const model of models) {
        void startLongStep(model);
        void startLongStep(model);
      }
      if (round % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      await own.close();
    }
  });

  test('an engine while it loads rejects the load with engine_closed', async () => {
    const loads = [engine.load(tiny), engine.load(tiny)];
    const outcomes = Promise.allSettled(loads);
    await engine.close();
    for (const outcome of await outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'engine_closed' });
    }
  });

  test('what was never a handle is refused with invalid_parameter', async () => {
    for (const handle of [0, 3.5, -2, 1e9, '2', null, undefined]) {
      await expect(addon.closeEngine(handle as EngineHandle)).rejects.toEqual(invalid);
      await expect(addon.closeModel(handle as ModelHandle)).rejects.toEqual(invalid);
    }
  });

  test('frees the memory: 60 loads of one model do not add up', async () => {
    const big = new TinyModel(tinySpec({ vocabSize: 20_000 }));
    const load = async (): Promise<void> => {
      const model = await engine.load(big, { numPages: 2000 });
      await model.generate({ row: 0, tokens: [1, 2, 3], maxTokens: 3 });
      await model.close();
    };
    for (let i = 0; i < 10; i += 1) await load();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 60; i += 1) await load();
    const weightBytes = 20_000 * 64 * 4;
    expect(process.memoryUsage().rss - before).toBeLessThan(10 * weightBytes);
    big.remove();
  });
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

  test('gives the same bits from slices, transposed tensors and permuted rows', async () => {
    const tokens = [1, 2, 3, 4, 5];
    const expected = await (await load({})).logits(tokens, [0, 4]);
    const role = 'layers.1.attention.q';
    const source = tiny.tensors.find((tensor) => tensor.role === role)?.source as WeightSource;
    const { offset = 0, byteLength = 0 } = source.slices[0] ?? {};
    const values = tiny.weights.get(role) as Float32Array;
    const [rows, columns] = source.shape as [number, number];
    const rowBytes = columns * 4;

    const slices = [0, 10, 11].map((row, i, starts) => {
      const end = starts[i + 1] ?? rows;
      return { file: 0, offset: offset + row * rowBytes, byteLength: (end - row) * rowBytes };
    });
    expect(slices.reduce((sum, slice) => sum + slice.byteLength, 0)).toBe(byteLength);
    expect(await (await load({ tensors: withTensor(role, { slices }) })).logits(tokens, [0, 4])).toEqual(
      expected,
    );

    const stored = new Float32Array(values.length);
    const extra = { path: join(tiny.folder, 'extra.bin'), size: values.byteLength, mtimeMs: 1000 };
    const loadExtra = async (change: Partial<WeightSource>): Promise<Float32Array> => {
      writeFileSync(extra.path, stored);
      utimesSync(extra.path, 1, 1);
      const inExtra = { ...change, slices: [{ file: 1, offset: 0, byteLength: values.byteLength }] };
      return (await load({ files: [...tiny.files, extra], tensors: withTensor(role, inExtra) })).logits(
        tokens,
        [0, 4],
      );
    };
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        stored[column * rows + row] = values[row * columns + column] as number;
      }
    }
    expect(await loadExtra({ isTransposed: true })).toEqual(expected);
    const rowOrder = Int32Array.from({ length: rows }, (_, row) => (row * 13 + 5) % rows);
    for (const [row, from] of rowOrder.entries())
      stored.set(values.subarray(row * columns, (row + 1) * columns), from * columns);
    expect(await loadExtra({ rowOrder })).toEqual(expected);
  });

  test.each<[string, string, () => void]>([
    ['has shrunk', 'model_file_changed', () => truncateSync(tiny.path, 100)],
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
      () => ({ tensors: withTensor('embedding', { format: 'q3_k' as 'f32' }) }),
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

  test('stops with aborted when its cancel word is set', async () => {
    const cancel = new Int32Array(new SharedArrayBuffer(4));
    Atomics.store(cancel, 0, 1);
    await expect(load({ cancel })).rejects.toMatchObject({ code: 'aborted' });
    expect((await (await load({})).submit({})).errorCode).toBeNull();
  });
});

describe('creating an engine', () => {
  test.each([
    [{ threads: 0, isa: null }],
    [{ threads: 1.5, isa: null }],
    [{ threads: 5000, isa: null }],
    [{ threads: 1, isa: 'sse9' }],
    [{ threads: 1, isa: 7 }],
    [null],
  ])('with %j throws invalid_parameter', (options) => {
    expect(() => addon.createEngine(options as never, () => undefined)).toThrow(invalid);
  });

  test('without a callback throws invalid_parameter', () => {
    expect(() => addon.createEngine({ threads: 1, isa: null }, 3 as never)).toThrow(invalid);
  });

  test('every instruction set that the processor has computes the same answer, within rounding', async () => {
    const { isa, supported } = addon.describeCpu(null);
    expect(supported).toContain(isa);
    const logits: Float32Array[] = [];
    for (const name of supported) {
      const own = new TestEngine(addon, 1, name);
      logits.push(await (await own.load(tiny)).logits([1, 2, 3, 4], [3]));
      await own.close();
    }
    for (const other of logits) {
      for (const [i, value] of other.entries()) expect(value).toBeCloseTo(logits[0]?.[i] as number, 4);
    }
  });
});
