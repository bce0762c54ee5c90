import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkKvDtype, parseEngineOptions, parseLoadOptions } from '../../../lib/engine/load-options';
import type { EngineOptions, LoadModelOptions } from '../../../lib/engine/types';
import { cacheFolder } from '../../../lib/model/source/cache-folders';

const invalid = (message: RegExp) =>
  expect.objectContaining({ code: 'invalid_parameter', message: expect.stringMatching(message) });

describe('options of loadModel', () => {
  test('are complete after parsing', () => {
    expect(parseLoadOptions('name').settings).toEqual({
      contextLength: null,
      kvDtype: 'bf16',
      kvMemory: null,
      prefixCache: true,
      precision: 'fast',
      maxConcurrency: 64,
      maxQueuedRequests: 256,
      maxStepTokens: 512,
      maxChunkTokens: 256,
      gpuLayers: null,
      weightCache: { maxBytes: 32 * 2 ** 30, isShared: false, write: 'auto' },
      tuningFolder: null,
    });
    const { settings } = parseLoadOptions({
      source: 'x',
      maxConcurrency: 8,
      precision: 'exact',
      maxStepTokens: 16,
    });
    expect(settings).toMatchObject({
      kvDtype: 'f32',
      maxQueuedRequests: 32,
      maxStepTokens: 16,
      maxChunkTokens: 16,
    });
    const given = parseLoadOptions({
      source: 'x',
      precision: 'exact',
      kvCache: { dtype: 'bf16', prefixCache: false },
    });
    expect(given.settings).toMatchObject({ kvDtype: 'bf16', prefixCache: false });
    expect(parseLoadOptions({ source: 'x', gpuLayers: 3 }).settings.gpuLayers).toBe(3);
    expect(parseLoadOptions({ source: 'x', gpuLayers: 'auto' }).settings.gpuLayers).toBeNull();
    expect(parseLoadOptions({ source: 'x', kvCache: { dtype: 'int8' } }).settings.kvDtype).toBe('int8');
  });

  test('take fp8 for the KV cache where a GPU computes', () => {
    const { settings } = parseLoadOptions({ source: 'x', kvCache: { dtype: 'fp8' } });
    expect(settings.kvDtype).toBe('fp8');
    const gpu = { index: 0, name: 'x', uuid: 'y', computeCapability: 90, totalBytes: 1 };
    expect(() => checkKvDtype(settings, { gpu })).not.toThrow();
    expect(() => checkKvDtype(settings, { gpu: null })).toThrow(
      invalid(/kvCache\.dtype to be 'bf16', 'int8' or 'f32' on the processor, got 'fp8'/),
    );
    expect(() => checkKvDtype({ kvDtype: 'int8' }, { gpu: null })).not.toThrow();
  });

  test.each([
    [undefined, undefined, true],
    [undefined, '1', true],
    [undefined, '0', false],
    [undefined, 'OFF', false],
    [true, '0', true],
    [false, '1', false],
  ])('tune as the option says, else the environment: %s, %s', (autotune, setting, expected) => {
    const before = process.env.OPEN_AUTOGLM_AUTOTUNE;
    try {
      if (setting === undefined) delete process.env.OPEN_AUTOGLM_AUTOTUNE;
      else process.env.OPEN_AUTOGLM_AUTOTUNE = setting;
      const options = autotune === undefined ? { source: 'x' } : { source: 'x', autotune };
      const { tuningFolder } = parseLoadOptions(options).settings;
      expect(tuningFolder).toBe(expected ? join(cacheFolder(), 'tuning') : null);
    } finally {
      process.env.OPEN_AUTOGLM_AUTOTUNE = before;
    }
  });

  test.each([
    [1024, 1024],
    ['512MiB', 512 * 2 ** 20],
    ['8GiB', 8 * 2 ** 30],
    ['1.5 GB', 1.5e9],
    ['100B', 100],
    ['2TiB', 2 * 2 ** 40],
  ])('read a memory size of %s', (memory, bytes) => {
    expect(parseLoadOptions({ source: 'x', kvCache: { memory } }).settings.kvMemory).toBe(bytes);
  });

  test('say how packed weights are kept', () => {
    const parsed = (weightCache: LoadModelOptions['weightCache']) =>
      parseLoadOptions({ source: 'x', weightCache: weightCache as boolean }).settings.weightCache;
    expect(parsed(false)).toBeNull();
    expect(parsed(true)).toEqual(parsed({}));
    expect(parsed({ maxBytes: '1GiB', share: true, write: 'never' })).toEqual({
      maxBytes: 2 ** 30,
      isShared: true,
      write: 'never',
    });
    expect(() => parsed({ maxBytes: 0 })).toThrow(
      invalid(/expected weightCache\.maxBytes to be a number of bytes/),
    );
    expect(() => parsed('yes' as unknown as boolean)).toThrow(
      invalid(/expected weightCache to be true, false/),
    );
  });

  test.each([0, -1, 1.5, '0MiB', '8 gib', 'GiB', '', '8GiB ', '1e3MB', Number.NaN, '99999999TiB', null])(
    'refuse %s as a memory size',
    (memory) => {
      const options = { source: 'x', kvCache: { memory } } as unknown as LoadModelOptions;
      expect(() => parseLoadOptions(options)).toThrow(
        invalid(/expected kvCache\.memory to be a number of bytes, or text/),
      );
    },
  );

  test.each<[string, unknown, RegExp]>([
    ['no source', {}, /expected source/],
    ['an empty source', '', /expected source/],
    ['an unknown option', { source: 'x', threads: 2 }, /threads is not a known option/],
    [
      'an unknown KV dtype',
      { source: 'x', kvCache: { dtype: 'q8_0' } },
      /kvCache\.dtype to be one of 'bf16', 'f32', 'int8', 'fp8', got 'q8_0'/,
    ],
    ['an unknown KV option', { source: 'x', kvCache: { size: 2 } }, /kvCache\.size is not a known option/],
    [
      'an unknown precision',
      { source: 'x', precision: 'slow' },
      /precision to be one of 'fast', 'exact', got 'slow'/,
    ],
    ['too few step tokens', { source: 'x', maxStepTokens: 15 }, /maxStepTokens to be an integer in 16/],
    ['no rows', { source: 'x', maxConcurrency: 0 }, /maxConcurrency/],
    ['too many rows', { source: 'x', maxConcurrency: 1025 }, /1\.\.1024, got 1025/],
    ['a context of nothing', { source: 'x', contextLength: 0 }, /contextLength/],
    [
      'no layers on the GPU',
      { source: 'x', gpuLayers: 0 },
      /gpuLayers to be "auto" or an integer of at least 1 \(device "cpu" is for none\), got 0/,
    ],
    ['half a layer on the GPU', { source: 'x', gpuLayers: 1.5 }, /gpuLayers/],
    ['all layers in words', { source: 'x', gpuLayers: 'all' }, /gpuLayers/],
    ['a signal that is none', { source: 'x', signal: true }, /signal to be an AbortSignal, got true/],
    ['a progress bar', { source: 'x', onProgress: 'bar' }, /onProgress to be a function/],
  ])('refuse %s', (_what, options, message) => {
    expect(() => parseLoadOptions(options as LoadModelOptions)).toThrow(invalid(message));
  });
});

describe('options of createEngine', () => {
  test('have defaults', () => {
    expect(parseEngineOptions({}).threads).toBeNull();
    expect(parseEngineOptions({ device: 'cpu', threads: 256 }).threads).toBe(256);
  });

  test.each([
    ['auto', { variant: 'cpu', gpuIndices: null }],
    ['cuda', { variant: 'cuda', gpuIndices: null }],
    ['cuda:3', { variant: 'cuda', gpuIndices: [3] }],
    ['cuda:2,0,11', { variant: 'cuda', gpuIndices: [2, 0, 11] }],
  ] as const)('device %s', (device, settings) => {
    expect(parseEngineOptions({ device }).device).toEqual(settings);
  });

  test.each<[unknown, RegExp]>([
    [{ threads: 0 }, /threads to be an integer in 1\.\.256, got 0/],
    [{ threads: 257 }, /got 257/],
    [{ threads: '2' }, /got '2'/],
    [
      { device: 'gpu' },
      /device to be "auto", "cpu", "cuda", "cuda:N" with N from 0 to 1023, or several such as "cuda:0,1", none twice, got 'gpu'/,
    ],
    [{ logger: {} }, /logger to be a function/],
    [{ gpu: 1 }, /gpu is not a known option/],
    [7, /options to be an object/],
  ])('%j is refused', (options, message) => {
    expect(() => parseEngineOptions(options as EngineOptions)).toThrow(invalid(message));
  });
});
