import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NativeAdapterPart, NativeAdapterRequest } from '../../../lib/native/addon';
import type { WeightSource } from '../../../lib/native/decoder-spec';
import { loadAddon } from '../../../lib/native/loader';
import { TestEngine, type TestModel } from './step-driver';
import { latentAttention, moeSpec, TinyModel, tinySpec } from './tiny-model';

const { addon } = loadAddon();

let engine: TestEngine;
let tiny: TinyModel;
let model: TestModel;
beforeEach(async () => {
  engine = new TestEngine(addon);
  tiny = new TinyModel(tinySpec());
  model = await engine.load(tiny);
});
afterEach(async () => {
  await engine.close();
  tiny.remove();
});

const RANK = 2;
/** Any numbers of the model's own file will do. */
const matrix = (rows: number, columns: number, change: Partial<WeightSource> = {}): WeightSource => ({
  format: 'f32',
  shape: [rows, columns],
  slices: [{ file: 0, offset: 0, byteLength: 4 * rows * columns }],
  rowOrder: null,
  isTransposed: false,
  ...change,
});
const part = (change: Partial<NativeAdapterPart> = {}): NativeAdapterPart => ({
  layer: 0,
  product: 'o',
  firstColumn: 0,
  scale: 1,
  a: matrix(RANK, 64),
  b: matrix(64, RANK),
  ...change,
});
const request = (parts: readonly NativeAdapterPart[], cancelled = 0): NativeAdapterRequest => ({
  files: tiny.files,
  parts,
  cancel: Int32Array.of(cancelled),
});

test('numbers are never given out twice, and an adapter is unloaded once', async () => {
  const first = await addon.loadAdapter(model.handle, request([part()]));
  expect(first.bytes).toBeGreaterThan(0);
  await addon.unloadAdapter(model.handle, first.id);
  const unknown = { code: 'invalid_parameter' };
  await expect(addon.unloadAdapter(model.handle, first.id)).rejects.toMatchObject(unknown);
  const second = await addon.loadAdapter(model.handle, request([part()]));
  expect(second.id).toBeGreaterThan(first.id);
});

test('a closed model neither takes nor gives back adapters', async () => {
  const { id } = await addon.loadAdapter(model.handle, request([part()]));
  await addon.closeModel(model.handle);
  const closed = { code: 'engine_closed' };
  await expect(addon.loadAdapter(model.handle, request([part()]))).rejects.toMatchObject(closed);
  await expect(addon.unloadAdapter(model.handle, id)).rejects.toMatchObject(closed);
});

describe('the border refuses', () => {
  const cases: readonly [string, Partial<NativeAdapterPart>, string][] = [
    ['a layer that the model lacks', { layer: 2 }, 'invalid_parameter'],
    ['columns behind the product', { firstColumn: 1 }, 'invalid_parameter'],
    ['columns far behind it', { firstColumn: Number.MAX_SAFE_INTEGER }, 'invalid_parameter'],
    ['another width', { a: matrix(RANK, 32) }, 'invalid_parameter'],
    ['ranks that differ', { b: matrix(64, 3) }, 'invalid_parameter'],
    ['a rank too large', { a: matrix(257, 64), b: matrix(64, 257) }, 'invalid_parameter'],
    ['a vector', { a: matrix(RANK, 64, { shape: [64] }) }, 'invalid_parameter'],
    ['quantized numbers', { a: matrix(RANK, 64, { format: 'q8_0' }) }, 'invalid_parameter'],
    ['a scale that is no number', { scale: Number.NaN }, 'invalid_parameter'],
    [
      'bytes outside the file',
      { a: matrix(RANK, 64, { slices: [{ file: 0, offset: 1 << 30, byteLength: 512 }] }) },
      'invalid_model_file',
    ],
    [
      'too few bytes',
      { b: matrix(64, RANK, { slices: [{ file: 0, offset: 0, byteLength: 508 }] }) },
      'invalid_model_file',
    ],
  ];
  test.each(cases)('%s', async (_, change, code) => {
    await expect(addon.loadAdapter(model.handle, request([part(change)]))).rejects.toMatchObject({ code });
  });

  test('a cancelled load', async () => {
    const cancelled = addon.loadAdapter(model.handle, request([part()], 1));
    await expect(cancelled).rejects.toMatchObject({ code: 'aborted' });
  });

  test('experts and latent attention', async () => {
    const other = new TinyModel(tinySpec({}, [{ mlp: moeSpec(), attention: latentAttention() }]));
    try {
      const loaded = await engine.load(other);
      for (const product of ['qkv', 'o', 'gateUp', 'down'] as const) {
        const refused = addon.loadAdapter(loaded.handle, request([part({ product })]));
        await expect(refused, product).rejects.toMatchObject({ code: 'invalid_parameter' });
      }
    } finally {
      other.remove();
    }
  });
});
