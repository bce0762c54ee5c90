import { afterEach, describe, expect, test } from 'vitest';
import { createEngine, Fixture } from '../engine/engine-under-test';
import { FAKE_DRIVER, useFakeDriver } from './cuda-binary';

// Goal: a GPU that cannot be used is an error that says what is wrong and what to do, and nothing falls back.

afterEach(() => useFakeDriver());

const start = (device: 'cuda' | `cuda:${number}` = 'cuda') => createEngine({ device, threads: 1 });

test('no driver', async () => {
  process.env.OPEN_AUTOGLM_CUDA_DRIVER = '/nonexistent/libcuda.so.1';
  await expect(start()).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringContaining('/nonexistent/libcuda.so.1'),
    details: { path: 'device', status: 'library_missing' },
  });
});

describe.each([
  ['driver_version=12020', 'driver_too_old'],
  ['num_devices=0', 'no_device'],
  ['compute_capability=75', 'no_supported_device'],
])('a driver with %s', (settings, status) => {
  test(`is ${status}`, async () => {
    useFakeDriver(settings);
    await expect(start()).rejects.toMatchObject({ code: 'invalid_parameter', details: { status } });
  });
});

test('a GPU that is not there is named beside those that are', async () => {
  useFakeDriver();
  await expect(start('cuda:7')).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringContaining('GPU 7'),
    hint: expect.stringContaining('cuda:0'),
  });
});

test('a KV cache larger than what is left of the GPU is refused with both figures', async () => {
  useFakeDriver('total_memory=67108864');
  const engine = await start();
  try {
    await expect(
      engine.loadModel({ source: Fixture.q4, contextLength: 64, kvCache: { memory: '128MiB' } }),
    ).rejects.toMatchObject({
      code: 'out_of_memory',
      message: expect.stringMatching(/128\.0 MiB.*MiB are free/),
    });
  } finally {
    await engine.close();
  }
});

test.each(['', 'gpu', 'cuda:', 'cuda:-1', 'cuda:1024', 'cuda:01'])('device %j is refused', async (device) => {
  await expect(createEngine({ device: device as 'cuda' })).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringContaining('"cuda:N"'),
  });
});

test('the fake driver is the one that was asked for', async () => {
  useFakeDriver();
  const engine = await start();
  expect(engine.binary.gpu?.name).toMatch(/emulat/i);
  expect(process.env.OPEN_AUTOGLM_CUDA_DRIVER).toBe(FAKE_DRIVER);
  await engine.close();
});
