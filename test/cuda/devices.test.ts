import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { GenerateOptions, LoadModelOptions } from '../../lib/engine/types';
import { createEngine, Fixture } from '../engine/engine-under-test';
import { FAKE_DRIVER } from './cuda-binary';

// Goal: a GPU that cannot be used is an error that says what is wrong and what to do, and nothing falls back.

interface Outcome {
  readonly device?: string;
  readonly library?: string;
  /** Of the fake driver: test/native/cuda/fake_driver/control.h. */
  readonly settings?: string;
  readonly load?: LoadModelOptions;
  readonly generate?: GenerateOptions;
}

function outcomeOf({
  device = 'cuda',
  library = FAKE_DRIVER,
  settings = '',
  load,
  generate,
}: Outcome): unknown {
  const script = join(__dirname, 'one-engine.cjs');
  const options = [load, generate].filter((each) => each !== undefined).map((each) => JSON.stringify(each));
  const args = [script, device, ...options];
  const env = { ...process.env, OPEN_AUTOGLM_CUDA_DRIVER: library, AUTOGLM_FAKE_CUDA: settings };
  return JSON.parse(execFileSync(process.execPath, args, { env, encoding: 'utf8' }));
}

test('a GPU that can be used is named', () => {
  expect(outcomeOf({})).toMatchObject({ gpu: { index: 0, computeCapability: 90 } });
});

test('no driver', () => {
  const library = '/nonexistent/libcuda.so.1';
  expect(outcomeOf({ library })).toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringContaining(library),
    details: { path: 'device', status: 'library_missing' },
  });
});

describe.each([
  ['driver_version=12020', 'driver_too_old'],
  ['num_devices=0', 'no_device'],
  ['compute_capability=75', 'no_supported_device'],
  ['init_result=803', 'initialization_failed'],
])('a driver with %s', (settings, status) => {
  test(`is ${status}`, () => {
    expect(outcomeOf({ settings })).toMatchObject({ code: 'invalid_parameter', details: { status } });
  });
});

test('a GPU that is not there is named beside those that are', () => {
  expect(outcomeOf({ device: 'cuda:7' })).toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringContaining('GPU 7'),
    hint: expect.stringContaining('cuda:0'),
  });
});

test('a GPU with no free memory refuses a model with both figures', () => {
  const load = { source: Fixture.q4, contextLength: 64, kvCache: { memory: '4MiB' } };
  expect(outcomeOf({ settings: 'total_memory=0', load })).toMatchObject({
    code: 'out_of_memory',
    message: expect.stringMatching(/needs \d\.\d MiB while 0\.0 MiB are free there, nor split/),
    details: { gpus: [{ device: 'cuda:0', free: 0 }] },
  });
});

test('a KV cache larger than what is left of the GPU is refused with both figures', () => {
  const load = { source: Fixture.q4, contextLength: 64, kvCache: { memory: '128MiB' } };
  expect(outcomeOf({ settings: 'total_memory=67108864', load })).toMatchObject({
    code: 'out_of_memory',
    message: expect.stringMatching(
      /13\d\.\d MiB while 60\.8 MiB are free there, nor split: with 1 of its 2 layers/,
    ),
  });
});

// Goal: what only the driver finds out, while it loads a model, has its own code and says which call failed with what.
describe('a model is not loaded where the driver', () => {
  const load = { source: Fixture.q4, contextLength: 64, kvCache: { memory: '4MiB' } };
  test.each<[string, string, string, RegExp]>([
    [
      'has no code for the GPU in the modules',
      'cuModuleLoadDataEx:1=209',
      'invalid_parameter',
      /^cuModuleLoadDataEx: CUDA_ERROR_NO_BINARY_FOR_GPU .*kernel \w+ for compute capability 9\.0.*on GPU 0/,
    ],
    [
      'has no memory for a context',
      'cuDevicePrimaryCtxRetain:1=2',
      'out_of_memory',
      /^cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY .*on GPU 0/,
    ],
    [
      'has less memory than it said was free',
      'cuMemAlloc_v2:3=2',
      'out_of_memory',
      /^cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY .*: \d+ bytes of device memory, \d+ of 8589934592 are free/,
    ],
    [
      'has next to no free memory at all',
      'total_memory=1048576',
      'out_of_memory',
      /needs \d\.\d MiB while 0\.9 MiB are free there, nor split: with 1 of its 2 layers/,
    ],
  ])('%s', (_what, settings, code, message) => {
    expect(outcomeOf({ settings, load })).toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

test('a request that ends with a lost GPU says which call of the driver found it, and with what', () => {
  const load = { source: Fixture.q4, contextLength: 64, kvCache: { memory: '4MiB' } };
  const generate = { tokens: [1, 2, 3], maxTokens: 60, ignoreEos: true };
  const settings = 'launch_failure_at=300'; // behind those of the load
  expect(outcomeOf({ settings, load, generate })).toMatchObject({
    code: 'engine_failed',
    message: expect.stringMatching(
      /^step \d+ failed with device_lost: cu\w+: CUDA_ERROR_LAUNCH_FAILED .*on GPU 0/,
    ),
  });
});

test.each(['', 'gpu', 'cuda:', 'cuda:-1', 'cuda:1024', 'cuda:01', 'cuda:0,0'])(
  'device %j is refused',
  async (device) => {
    await expect(createEngine({ device: device as 'cuda' })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringContaining('"cuda:N"'),
    });
  },
);
