import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EngineHandle, ModelHandle } from '../../../lib/native/addon';
import { loadAddon } from '../../../lib/native/loader';
import { TestEngine, type TestModel } from './step-driver';
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
    expect(() => addon.stepFailure(model.handle, 0)).toThrow(closed);
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

  test('a model whose step has finished unreported calls nobody back', async () => {
    const model = await engine.load(tiny);
    void model.submit({});
    // The event loop stands still meanwhile, so that the report is still on its way when the model is closed.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    await model.close();
    expect(engine.finished).toEqual([]);
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
