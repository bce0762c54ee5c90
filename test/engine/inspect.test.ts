import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runCli } from './cli-process';
import { Fixture, withModel } from './engine-under-test';

test('inspect model names family, sizes and formats', async () => {
  const { stdout, code } = await runCli(['inspect', 'model', Fixture.q4, '--json', '--tensors']);
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({
    family: 'llama',
    format: 'gguf',
    vocabSize: 384,
    contextLength: 512,
    numLayers: 2,
  });
  expect(report.formats.map(({ stored }: { stored: string }) => stored)).toContain('Q4_0');
  expect(report.tensors.map(({ role }: { role: string }) => role)).toContain('layers.0.attention.q');
  expect(report.problems).toEqual([]);
  expect(code).toBe(0);
});

test('inspect model says what each kind of tensor becomes, in words and sizes', async () => {
  const { stdout } = await runCli(['inspect', 'model', Fixture.bf16]);
  expect(stdout).toMatch(/attention +sees all tokens before, biases on q, k and v\n/);
  expect(stdout).toMatch(/norms +RMS before and behind each branch, epsilon 0.00001\n/);
  expect(stdout).toMatch(/KV cache +\d.* per token \(bf16\)\n/);
  expect(stdout).toMatch(/\nbf16 +bf16 +\d+ .* 16\.\d\d +.* 16\.\d\d\n/);
});

test('inspect model shows what it can of a model that cannot run, and says why', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'autoglm-odd-'));
  cpSync(Fixture.float32, folder, { recursive: true });
  const path = join(folder, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as object;
  writeFileSync(
    path,
    JSON.stringify({ ...config, model_type: 'mamba', architectures: ['MambaForCausalLM'] }),
  );
  const { stdout, stderr, code } = await runCli(['inspect', 'model', folder]);
  expect(stdout).toContain('not supported: MambaForCausalLM (safetensors)');
  expect(stdout).toMatch(/\nF32 +f32 +\d+/);
  expect(stderr).toMatch(/will not work: .*model_type "mamba" is not supported \(supported: .*llama/);
  expect(code).toBe(0);
  rmSync(folder, { recursive: true });
});

test('inspect estimate says what loading then takes', async () => {
  const args = ['inspect', 'estimate', Fixture.float32, '--context', '512', '--concurrency', '4', '--json'];
  const estimate = JSON.parse((await runCli(args)).stdout);
  const info = await withModel({}, async (model) => model.info);
  // The arena may pad a matrix less than the estimate does.
  expect(Math.abs(estimate.weightBytes / info.weightBytes - 1)).toBeLessThan(0.01);
  expect(estimate.kvBytesPerToken).toBe(info.kvBytesPerToken);
  expect(estimate.kvBytes).toBe(4 * 512 * info.kvBytesPerToken);
  const used = info.weightBytes + estimate.kvBytes + info.scratchBytes;
  expect(Math.abs(estimate.totalBytes / used - 1)).toBeLessThan(0.05);
});
