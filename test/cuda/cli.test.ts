import { describe, expect, test } from 'vitest';
import { runCli } from '../engine/cli-process';
import { Fixture } from '../engine/engine-under-test';
import { CUDA_BINARY, FAKE_DRIVER } from './cuda-binary';

// Goal: the command line says which GPU it finds or why it uses none, and computes on one that it is told to use.

const GPU = { OPEN_AUTOGLM_CUDA_DRIVER: FAKE_DRIVER };
const NO_GPU = { OPEN_AUTOGLM_CUDA_DRIVER: '/nonexistent/libcuda.so.1' };

interface Finding {
  readonly what: string;
  readonly state: string;
  readonly text: string;
  readonly lines?: readonly string[];
  readonly hint?: string;
}

async function gpuFinding(env: Readonly<Record<string, string>>): Promise<{ gpu: Finding; code: unknown }> {
  const { code, stdout } = await runCli(['doctor', '--json'], '', env);
  const gpu = (JSON.parse(stdout) as Finding[]).find(({ what }) => what === 'GPU');
  if (gpu === undefined) throw new Error(`no finding about GPUs: ${stdout}`);
  return { gpu, code };
}

describe('doctor', () => {
  test('names the GPUs, those of no use too, and the addon that would use them', async () => {
    const settings = 'num_devices=2,compute_capability=90,last_compute_capability=75';
    const { gpu, code } = await gpuFinding({ ...GPU, AUTOGLM_FAKE_CUDA: settings });
    expect(gpu).toMatchObject({ state: 'good', text: 'CUDA driver 13' });
    expect(gpu.lines).toEqual([
      expect.stringMatching(/open_autoglm_cuda\.node: loaded, ABI version \d+$/),
      expect.stringMatching(/^cuda:0 .+, compute capability 9, 8\.\d+ GB$/),
      expect.stringMatching(/^cuda:1 .+, compute capability 7\.5, .+: not supported$/),
    ]);
    expect(code).toBe(0);
  });

  test('says that there is no driver and what to do; the processor is enough', async () => {
    const { gpu, code } = await gpuFinding(NO_GPU);
    expect(gpu).toMatchObject({
      state: 'limited',
      text: expect.stringContaining(NO_GPU.OPEN_AUTOGLM_CUDA_DRIVER),
      hint: expect.stringMatching(/driver/),
    });
    expect(code).toBe(0);
  });

  test('says why the addon with CUDA code cannot be loaded', async () => {
    const { gpu, code } = await gpuFinding({ ...GPU, OPEN_AUTOGLM_CUDA_BINARY: '/none.node' });
    expect(gpu).toMatchObject({
      state: 'limited',
      lines: [expect.stringContaining('/none.node: not found')],
    });
    expect(code).toBe(0);
  });
});

describe('run', () => {
  const command = ['run', Fixture.q4, 'Pages hold tokens.', '--max-tokens', '4', '--temperature', '0'];
  const small = ['--context', '128', '--kv-memory', '4MiB'];

  test('--device cuda computes on the GPU', async () => {
    // The addon of the processor alone cannot have answered: there is none.
    const env = { ...GPU, OPEN_AUTOGLM_BINARY: '/none.node' };
    const { code, stdout, stderr } = await runCli([...command, ...small, '--device', 'cuda'], '', env);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout.trim().length).toBeGreaterThan(0);
  });

  test('--device cuda:0,1 computes on two GPUs', async () => {
    const env = { ...GPU, AUTOGLM_FAKE_CUDA: 'num_devices=2' };
    const { code, stderr } = await runCli(
      [...command, ...small, '--device', 'cuda:0,1', '--verbose'],
      '',
      env,
    );
    expect({ code, stderr }).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/layers 0 on cuda:0, 1 on cuda:1/),
    });
  });

  test('--device cuda without a driver is an error and not the processor', async () => {
    const { code, stdout, stderr } = await runCli([...command, '--device', 'cuda'], '', NO_GPU);
    expect(stderr).toMatch(/error: device: expected a GPU .*libcuda\.so\.1.*\n.*hint: /s);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  test.each([
    ['cuda:3', /expected GPU 3 .*\n.*hint: .*cuda:0/s],
    ['gpu', /"cuda:N"/],
    ['cuda:x', /"cuda:N"/],
    ['cuda:0,0', /none twice/],
  ])('--device %s is a wrong command line: exit 2, nothing on standard output', async (device, message) => {
    const { code, stdout, stderr } = await runCli([...command, '--device', device], '', GPU);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });
});

test('the addon that these tests run is the one of this checkout', async () => {
  const { gpu } = await gpuFinding(GPU);
  expect(gpu.lines?.[0]).toContain(CUDA_BINARY);
});
