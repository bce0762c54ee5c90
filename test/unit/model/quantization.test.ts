import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../../lib/model/checkpoint';
import { describeDecoder } from '../../../lib/model/families/registry';
import { estimateMemory } from '../../../lib/model/memory-estimate';
import { fixturePath } from '../../parity/fixtures';
import { type Change, checkpointOf, configOf, described, openFixtures } from './families/variant';

const NAMES = [
  'gptq-v1-sym',
  'gptq-v1-3bit-sym',
  'gptq-v1-mixed',
  'gptq-v2-mixed',
  'awq',
  'pack-quantized',
  'int8-and-float8',
  'float8-blocks',
  'mxfp4-packed',
  'float8-stacks',
];
beforeAll(() => openFixtures(NAMES));

const sourceOf = (name: string, role: string, change: Change = {}) =>
  described(name, change).tensors.find((tensor) => tensor.role === `layers.0.${role}`)?.source;

describe('every part of a quantized checkpoint is used, and weights are counted, not words', () => {
  const numLlama = 384 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96 + 3 * 64;
  const numGlm4 = 384 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 160 + 5 * 64 + 64 + 2 * 32;
  const numQwen3Moe = 384 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 4 * 64 + 4 * 3 * 64 * 64 + 3 * 64 + 2 * 16;
  const expected: Readonly<Record<string, number>> = {
    glm4: numGlm4,
    llama: numLlama,
    qwen3_moe: numQwen3Moe,
  };
  test.each(NAMES)('%s', (name) => {
    const { info } = described(name, {});
    expect(info.warnings).toEqual([]);
    expect(info.numParameters).toBe(expected[info.family]);
  });
});

describe('the parts of one matrix', () => {
  test('gptq: bits of each module from its shape, groups as its index says', () => {
    expect(sourceOf('gptq-v2-mixed', 'attention.q')).toMatchObject({
      format: 'gptq_2',
      shape: [64, 64],
      quantization: {
        groupColumns: 32,
        isSymmetric: false,
        hasOrderedGroups: false,
        hasZerosLessOne: false,
        scales: { dtype: 'f16', shape: [2, 64] },
        zeros: { dtype: 'i32', shape: [2, 4] },
        groupIndex: { dtype: 'i32', shape: [1, 64] },
      },
    });
    expect(sourceOf('gptq-v1-mixed', 'mlp.gate')).toMatchObject({
      format: 'gptq_3',
      quantization: { hasZerosLessOne: true, zeros: { shape: [2, 9] } },
    });
  });

  test('gptq: symmetric 3-bit zeros of version 1 are not read, as writers disagree about them', () => {
    const source = sourceOf('gptq-v1-3bit-sym', 'mlp.down');
    expect(source).toMatchObject({
      format: 'gptq_3',
      quantization: { groupColumns: 96, isSymmetric: true, zeros: null },
    });
  });

  test('a fused matrix gives each role its rows', () => {
    for (const name of ['awq', 'gptq-v1-sym', 'pack-quantized', 'float8-blocks']) {
      const [gate, up] = [sourceOf(name, 'mlp.gate'), sourceOf(name, 'mlp.up')];
      expect(gate).toMatchObject({ shape: [160, 64], quantization: { storedRows: 320, firstRow: 0 } });
      expect(up).toMatchObject({ shape: [160, 64], quantization: { storedRows: 320, firstRow: 160 } });
      expect(up?.slices).toEqual(gate?.slices);
    }
  });

  test('8-bit types: one scale for the tensor, for each row, for groups, for ragged blocks', () => {
    const grid = (name: string, role: string) => {
      const { groupRows, groupColumns, scales } = sourceOf(name, role)?.quantization ?? {};
      return [groupRows, groupColumns, scales?.dtype, scales?.shape];
    };
    expect(grid('int8-and-float8', 'attention.q')).toEqual([1, 64, 'bf16', [64, 1]]);
    expect(grid('int8-and-float8', 'attention.k')).toEqual([1, 32, 'f32', [32, 2]]);
    expect(grid('int8-and-float8', 'attention.o')).toEqual([1, 64, 'bf16', [64, 1]]);
    expect(grid('int8-and-float8', 'mlp.gate')).toEqual([96, 64, 'f32', [1, 1]]);
    expect(grid('float8-blocks', 'mlp.up')).toEqual([48, 32, 'f32', [7, 2]]);
  });

  test('4-bit floats keep their codes and read bytes as powers of two', () => {
    expect(sourceOf('mxfp4-packed', 'mlp.down')).toMatchObject({
      format: 'packed_e2m1',
      shape: [64, 96],
      quantization: { groupColumns: 32, isSymmetric: true, scales: { dtype: 'f8_e8m0', shape: [64, 3] } },
    });
  });

  test('each expert of a stack has its own part of the codes and scales', () => {
    const codes = checkpointOf('float8-stacks').tensors.get('model.layers.0.mlp.experts.gate_up_proj');
    const scales = checkpointOf('float8-stacks').tensors.get(
      'model.layers.0.mlp.experts.gate_up_proj_scale_inv',
    );
    for (const expert of [0, 3]) {
      const [gate, up] = ['gate', 'up'].map((part) =>
        sourceOf('float8-stacks', `mlp.experts.${expert}.${part}`),
      );
      expect(gate).toMatchObject({
        format: 'f8_e4m3',
        shape: [64, 64],
        slices: [{ offset: (codes?.offset ?? 0) + expert * 128 * 64, byteLength: 128 * 64 }],
        quantization: {
          storedRows: 128,
          firstRow: 0,
          groupRows: 48,
          groupColumns: 32,
          scales: {
            offset: (scales?.offset ?? 0) + expert * 3 * 2 * 4,
            byteLength: 3 * 2 * 4,
            shape: [3, 2],
          },
        },
      });
      expect(up).toMatchObject({ slices: gate?.slices, quantization: { firstRow: 64 } });
    }
  });

  test('a stack may have one scale for each expert, or one for each half of it', () => {
    const name = 'model.layers.0.mlp.experts.gate_up_proj_scale_inv';
    const grid = (shape: readonly number[]) => {
      const tensors = { [name]: { shape, byteLength: shape.reduce((product, dim) => product * dim, 4) } };
      const { groupRows, groupColumns, scales } =
        sourceOf('float8-stacks', 'mlp.experts.1.up', { tensors })?.quantization ?? {};
      return [groupRows, groupColumns, scales?.shape];
    };
    expect(grid([4, 1, 1])).toEqual([128, 64, [1, 1]]);
    expect(grid([4, 2, 1])).toEqual([64, 64, [2, 1]]);
    expect(grid([4, 128, 1])).toEqual([1, 64, [128, 1]]);
  });
});

describe('memory in fast and exact precision', () => {
  test.each<[string, string, string, number, string, number]>([
    ['gptq-v1-sym', 'mlp.gate', 'q4', 4.5, 'q4', 5],
    ['awq', 'mlp.gate', 'q4', 5, 'q4', 6],
    ['pack-quantized', 'attention.k', 'q8', 8.5, 'q8', 9],
    ['pack-quantized', 'attention.o', 'q8', 9, 'q8', 10],
    ['gptq-v2-mixed', 'attention.v', 'q4', 5, 'q4', 6],
    ['gptq-v2-mixed', 'mlp.down', 'q8', 8.5, 'f32', 32],
    ['gptq-v2-mixed', 'mlp.up', 'q8', 8.5, 'f32', 32],
    ['float8-blocks', 'mlp.gate', 'q8', 8.5, 'f32', 32],
    ['mxfp4-packed', 'mlp.gate', 'e2m1', 4.5, 'e2m1', 5],
  ])('%s: %s', (name, role, fastLayout, fastBits, exactLayout, exactBits) => {
    const { spec, tensors } = described(name, {});
    const size = {
      spec,
      tensors,
      kvDtype: 'bf16',
      contextLength: 1,
      concurrency: 1,
      maxStepTokens: 16,
      threads: 1,
    } as const;
    for (const [precision, layout, bits] of [
      ['fast', fastLayout, fastBits],
      ['exact', exactLayout, exactBits],
    ] as const) {
      const estimate = estimateMemory({ ...size, precision });
      const tensor = estimate.tensors.find((candidate) => candidate.role === `layers.0.${role}`);
      expect(tensor?.layout, precision).toBe(layout);
      expect(tensor?.bitsPerWeight, precision).toBeGreaterThanOrEqual(bits);
      expect(tensor?.bitsPerWeight, precision).toBeLessThan(bits + 0.3);
    }
  });
});

/** A change of some keys of quantization_config. */
const quantization = (name: string, keys: Readonly<Record<string, unknown>>): Change => ({
  config: { quantization_config: { ...(configOf(name).quantization_config as object), ...keys } },
});
const tensor = (suffix: string, values: object | null): Change => ({
  tensors: { [`model.layers.0.self_attn.${suffix}`]: values },
});

describe('what cannot be right or cannot be run is refused', () => {
  test.each<[string, () => Change, string, RegExp]>([
    [
      'gptq-v1-sym',
      () => quantization('gptq-v1-sym', { quant_method: 'aqlm' }),
      'unsupported_model',
      /quantization method "aqlm".*gptq, awq, compressed-tensors, fp8/,
    ],
    [
      'gptq-v1-sym',
      () => quantization('gptq-v1-sym', { quant_method: undefined }),
      'invalid_model_file',
      /quant_method.*the name of a method/,
    ],
    [
      'gptq-v1-sym',
      () => quantization('gptq-v1-sym', { bits: 5 }),
      'unsupported_model',
      /GPTQ with 5 bits.*2 bits, 3 bits, 4 bits, 8 bits/,
    ],
    [
      'gptq-v1-sym',
      () => quantization('gptq-v1-sym', { checkpoint_format: 'marlin' }),
      'unsupported_model',
      /checkpoint_format "marlin"/,
    ],
    [
      'gptq-v1-sym',
      () => quantization('gptq-v1-sym', { bits: 8 }),
      'invalid_model_file',
      /q_proj\.qweight": expected shape \[16, 64\].*found shape \[8, 64\]/,
    ],
    [
      'gptq-v1-sym',
      () => quantization('gptq-v1-sym', { group_size: 16 }),
      'invalid_model_file',
      /q_proj\.scales": expected shape \[4, 64\].*found shape \[2, 64\]/,
    ],
    [
      'gptq-v1-sym',
      () => tensor('q_proj.scales', null),
      'invalid_model_file',
      /q_proj\.scales": expected it beside the other parts/,
    ],
    [
      'gptq-v1-sym',
      () => tensor('q_proj.scales', { typeName: 'I64' }),
      'unsupported_model',
      /q_proj\.scales" of type I64.*F32, F16, BF16/,
    ],
    [
      'gptq-v1-mixed',
      () => quantization('gptq-v1-mixed', { meta: { quantizer: ['gptqmodel:2.0.0'] } }),
      'unsupported_model',
      /k_proj\.qzeros": asymmetric 3-bit zeros of version 1.*gptq_v2/,
    ],
    ['awq', () => quantization('awq', { bits: 8 }), 'unsupported_model', /AWQ with 8 bits.*4 bits/],
    ['awq', () => quantization('awq', { version: 'gemv' }), 'unsupported_model', /version "gemv".*gemm/],
    ['awq', () => quantization('awq', { zero_point: false }), 'unsupported_model', /zero_point false/],
    [
      'awq',
      () => tensor('k_proj.qzeros', { shape: [2, 8] }),
      'invalid_model_file',
      /k_proj\.qzeros": expected shape \[2, 4\]/,
    ],
    [
      'pack-quantized',
      () => quantization('pack-quantized', { format: 'nvfp4-pack-quantized' }),
      'unsupported_model',
      /format "nvfp4-pack-quantized".*pack-quantized, int-quantized, float-quantized/,
    ],
    [
      'pack-quantized',
      () => quantization('pack-quantized', { sparsity_config: { format: 'sparse-24-bitmask' } }),
      'unsupported_model',
      /sparsity format "sparse-24-bitmask"/,
    ],
    [
      'pack-quantized',
      () => quantization('pack-quantized', { transform_config: { config_groups: { u: {} } } }),
      'unsupported_model',
      /transforms/,
    ],
    [
      'pack-quantized',
      () => tensor('q_proj.weight_packed', { shape: [64, 12] }),
      'unsupported_model',
      /6\.0 bits for each of 64 inputs.*2 bits, 4 bits, 8 bits/,
    ],
    [
      'int8-and-float8',
      () => tensor('o_proj.weight_scale', { shape: [63, 1] }),
      'invalid_model_file',
      /o_proj\.weight_scale": expected scales for a matrix of \[64, 64\].*found shape \[63, 1\]/,
    ],
    [
      'float8-blocks',
      () => quantization('float8-blocks', { weight_block_size: [128] }),
      'invalid_model_file',
      /weight_block_size": expected two whole numbers/,
    ],
  ])('%s, case %#', (name, change, code, message) => {
    expect(() => described(name, change())).toThrowError(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});

test('quantized matrices without a word about them in the config are told apart from missing ones', () => {
  expect(() => described('awq', { config: { quantization_config: undefined } })).toThrowError(
    expect.objectContaining({
      code: 'invalid_model_file',
      message: expect.stringMatching(/tensors that the config asks for/),
      hint: expect.stringMatching(/no quantization_config/),
    }),
  );
});

// Goal: checkpoints from before `quantization_config` open as well. Method: the same settings in the old file.
test.each<[string, string, (settings: Record<string, unknown>) => object]>([
  ['gptq-v1-sym', 'quantize_config.json', ({ quant_method, ...settings }) => settings],
  ['awq', 'quant_config.json', () => ({ w_bit: 4, q_group_size: 32, zero_point: true, version: 'GEMM' })],
])('%s with %s', async (name, file, oldSettings) => {
  const folder = mkdtempSync(join(tmpdir(), 'autoglm-old-quantization-'));
  try {
    cpSync(fixturePath(name), folder, { recursive: true });
    const path = join(folder, 'config.json');
    const { quantization_config, ...config } = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify(config));
    writeFileSync(join(folder, file), JSON.stringify(oldSettings(quantization_config)));
    const { tensors } = describeDecoder(await openCheckpoint(folder));
    expect(tensors.map(({ source }) => source)).toEqual(
      described(name, {}).tensors.map(({ source }) => source),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
