import { beforeAll, describe, expect, test } from 'vitest';
import type { StoredTensor } from '../../../../lib/model/checkpoint-types';
import { estimateMemory } from '../../../../lib/model/memory-estimate';
import type { MoeSpec } from '../../../../lib/native/decoder-spec';
import { type Change, checkpointOf, described, number, openFixtures } from './variant';

beforeAll(() =>
  openFixtures([
    'glm4-moe-bf16',
    'glm4-moe-lite-bf16',
    'mixtral-f32',
    'qwen2-moe-f16',
    'qwen3-moe-bf16',
    'glm4-moe-q8_0',
    'glm4-moe-lite-q8_0',
    'mixtral-q4_0',
    'qwen2-moe-q8_0',
    'qwen3-moe-q4_1',
  ]),
);

const moeOf = (name: string, layer: number, change: Change = {}): MoeSpec | null => {
  const mlp = described(name, change).spec.layers[layer]?.mlp;
  return mlp?.kind === 'moe' ? mlp : null;
};

/** What it is, the fixture, the change to it, and what the error says. */
type Refusal = readonly [string, string, Change, RegExp];

function refusals(invalid: readonly Refusal[]): void {
  test.each(invalid)('%s', (_name, fixture, change, message) => {
    expect(() => described(fixture, change)).toThrow(
      expect.objectContaining({ code: 'invalid_model_file', message: expect.stringMatching(message) }),
    );
  });
}

describe('what a family says about its experts', () => {
  test('glm4_moe: dense layers first, groups, a corrected sigmoid, a shared expert', () => {
    expect(moeOf('glm4-moe-bf16', 0)).toBeNull();
    const moe: MoeSpec = {
      kind: 'moe',
      numExperts: 8,
      numExpertsPerToken: 3,
      intermediateSize: 32,
      sharedIntermediateSize: 32,
      hasSharedGate: false,
      activation: 'silu',
      router: {
        score: 'sigmoid',
        hasCorrectionBias: true,
        numGroups: 4,
        topGroups: 2,
        normalizesTopK: true,
        scale: 2.5,
      },
    };
    expect(moeOf('glm4-moe-bf16', 1)).toEqual(moe);
    expect(moeOf('glm4-moe-q8_0', 2)).toEqual({
      ...moe,
      router: { ...moe.router, numGroups: 1, topGroups: 1 },
    });
  });

  test('glm4_moe: the layer behind the last one is passed over in silence, others are not', () => {
    expect(described('glm4-moe-bf16', {}).spec.layers).toHaveLength(3);
    expect(described('glm4-moe-q8_0', {}).spec.layers).toHaveLength(3);
    const further = { tensors: { 'model.layers.4.enorm.weight': {}, 'model.layers.33.enorm.weight': {} } };
    expect(described('glm4-moe-bf16', further).info.warnings).toMatchObject([
      {
        code: 'unused_tensors',
        message: expect.stringContaining('model.layers.4.enorm.weight, model.layers.33.'),
      },
    ]);
  });

  test('glm4_moe: half of each head rotates, halves together, and biases and norms are options', () => {
    const change = {
      config: { rope_parameters: undefined, attention_bias: undefined, use_qk_norm: undefined },
    };
    const { spec } = described('glm4-moe-bf16', change);
    expect(spec.ropeTables[0]).toMatchObject({ rotaryDim: 8, style: 'half_split' });
    expect(spec.layers[1]?.attention).toMatchObject({ hasQkvBias: false, qkNorm: null });
    expect(described('glm4-moe-bf16', {}).spec.layers[1]?.attention).toMatchObject({
      hasQkvBias: true,
      hasOutputBias: false,
      qkNorm: { kind: 'rms', epsilon: 1e-5 },
    });
  });

  test('qwen2_moe: weights as they are, and a gate before the shared expert', () => {
    for (const name of ['qwen2-moe-f16', 'qwen2-moe-q8_0']) {
      expect(moeOf(name, 0)).toMatchObject({
        sharedIntermediateSize: 64,
        hasSharedGate: true,
        router: { score: 'softmax', hasCorrectionBias: false, normalizesTopK: false },
      });
    }
  });

  test('qwen3_moe: dense layers by list and by step', () => {
    const sparse = (config: Record<string, unknown>) =>
      described('qwen3-moe-bf16', { config, tensors: DENSE_LAYERS }).spec.layers.map(
        ({ mlp }) => mlp.kind === 'moe',
      );
    expect(sparse({})).toEqual([true, false, true]);
    expect(sparse({ mlp_only_layers: [0, 1] })).toEqual([false, false, true]);
    expect(sparse({ mlp_only_layers: [1], decoder_sparse_step: 3 })).toEqual([false, false, true]);
  });

  // transformers' defaults: GLM's configs normalize, Qwen's do not.
  test.each([
    ['glm4-moe-bf16', 1, true],
    ['glm4-moe-lite-bf16', 1, true],
    ['qwen2-moe-f16', 0, false],
    ['qwen3-moe-bf16', 0, false],
  ] as const)('%s without norm_topk_prob', (name, layer, normalizesTopK) => {
    const change = { config: { norm_topk_prob: undefined } };
    expect(moeOf(name, layer, change)?.router.normalizesTopK).toBe(normalizesTopK);
  });

  test('mixtral: weights add up to one, also when the file is a llama one', () => {
    for (const name of ['mixtral-f32', 'mixtral-q4_0']) {
      expect(described(name, {}).info.family).toBe('mixtral');
      expect(moeOf(name, 0)).toMatchObject({ router: { score: 'softmax', normalizesTopK: true, scale: 1 } });
    }
  });
});

/** The MLP of qwen3-moe-bf16's layer 1, once more in the others. */
const DENSE_LAYERS: Record<string, Partial<StoredTensor>> = Object.fromEntries(
  [0, 2].flatMap((layer) =>
    (
      [
        ['gate', [64, 32]],
        ['up', [64, 32]],
        ['down', [32, 64]],
      ] as const
    ).map(([name, shape]) => [`model.layers.${layer}.mlp.${name}_proj.weight`, { shape }]),
  ),
);

describe('where experts lie', () => {
  test('stacks are cut by expert, gate before up', () => {
    const { tensors } = described('qwen3-moe-bf16', {});
    const stored = checkpointOf('qwen3-moe-bf16').tensors.get('model.layers.0.mlp.experts.gate_up_proj');
    const offsetOf = (role: string) =>
      tensors.find((tensor) => tensor.role === `layers.0.mlp.experts.${role}`)?.source.slices[0];
    // Experts of 64 rows, 32 bf16 each.
    const start = stored?.offset ?? 0;
    expect(offsetOf('0.gate')).toMatchObject({ offset: start, byteLength: 32 * 64 });
    expect(offsetOf('0.up')).toMatchObject({ offset: start + 32 * 64 });
    expect(offsetOf('5.gate')).toMatchObject({ offset: start + 5 * 64 * 64, byteLength: 32 * 64 });
    expect(offsetOf('5.up')).toMatchObject({ offset: start + 5 * 64 * 64 + 32 * 64, byteLength: 32 * 64 });
  });

  test('GGUF files from before the stacks name each expert', () => {
    const original = checkpointOf('mixtral-q4_0');
    const tensors: Record<string, Partial<StoredTensor> | null> = {};
    for (const [name, tensor] of original.tensors) {
      const match = /^(blk\.\d+\.ffn_\w+)_exps\.weight$/.exec(name);
      if (match === null) continue;
      tensors[name] = null;
      const byteLength = tensor.byteLength / 4;
      for (let e = 0; e < 4; e += 1) {
        const offset = tensor.offset + e * byteLength;
        tensors[`${match[1]}.${e}.weight`] = { ...tensor, shape: tensor.shape.slice(1), offset, byteLength };
      }
    }
    expect(described('mixtral-q4_0', { tensors }).tensors).toEqual(described('mixtral-q4_0', {}).tensors);
  });

  test('the memory estimate counts every expert', () => {
    const { spec, tensors } = described('glm4-moe-q8_0', {});
    const input = {
      spec,
      tensors,
      precision: 'fast',
      kvDtype: 'bf16',
      contextLength: 1,
      concurrency: 1,
      maxStepTokens: 16,
      threads: 2,
    } as const;
    const experts = estimateMemory(input).tensors.filter(({ role }) => role.includes('.experts.'));
    expect(experts).toHaveLength(2 * 8 * 3);
    // [32, 32] as q8: one panel of 32 x 32 int8 and 32 half scales, one factor, rounded up to 64.
    expect(experts.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(48 * 1152);
  });
});

describe('glm4_moe_lite: latent attention', () => {
  const attentionOf = (name: string, change: Change = {}) =>
    described(name, change).spec.layers[1]?.attention;

  test('what is cached is one head of rotated dims and latent, and the heads are apart', () => {
    const norm = { kind: 'rms', epsilon: 1e-6, hasUnitOffset: false, hasBias: false };
    expect(attentionOf('glm4-moe-lite-bf16')).toMatchObject({
      numQHeads: 4,
      numKvHeads: 1,
      headDim: 16 + 48,
      valueDim: 48,
      scale: (12 + 16) ** -0.5,
      latent: { queryRank: 24, rank: 48, nopeDim: 12, ropeDim: 16, outputDim: 20, norm },
    });
    expect(attentionOf('glm4-moe-lite-q8_0')).toMatchObject({
      numKvHeads: 1,
      headDim: 64,
      valueDim: 32,
      scale: 0.125,
      latent: { queryRank: null, rank: 32, nopeDim: 32, ropeDim: 32, outputDim: 32, norm },
    });
  });

  test('a token takes rotated dims and latent in each layer, once', () => {
    const { spec, tensors } = described('glm4-moe-lite-bf16', {});
    const input = {
      spec,
      tensors,
      precision: 'fast',
      kvDtype: 'bf16',
      contextLength: 1,
      concurrency: 1,
      maxStepTokens: 16,
      threads: 1,
    } as const;
    expect(estimateMemory(input).kvBytesPerToken).toBe(2 * (16 + 48) * 2);
  });

  test('rotated rows come first, keys of a head are transposed, values are not', () => {
    const { tensors } = described('glm4-moe-lite-bf16', {});
    const sourceOf = (role: string) =>
      tensors.find((tensor) => tensor.role === `layers.0.attention.${role}`)?.source;
    const order = [...(sourceOf('kv_a')?.rowOrder ?? [])];
    expect([order[0], order[15], order[16], order[63]]).toEqual([48, 63, 0, 47]);
    const stored = checkpointOf('glm4-moe-lite-bf16').tensors.get(
      'model.layers.0.self_attn.kv_b_proj.weight',
    );
    const start = stored?.offset ?? 0;
    // Heads of 12 + 20 rows, 48 bf16 each.
    expect(sourceOf('k_b.2')).toMatchObject({
      shape: [48, 12],
      isTransposed: true,
      slices: [{ offset: start + 2 * 32 * 96, byteLength: 12 * 96 }],
    });
    expect(sourceOf('v_b.2')).toMatchObject({
      shape: [20, 48],
      isTransposed: false,
      slices: [{ offset: start + (2 * 32 + 12) * 96, byteLength: 20 * 96 }],
    });
  });

  test('halves rotate together when the config says so; layers are dense by list or by count', () => {
    const styleOf = (change: Change) => described('glm4-moe-lite-bf16', change).spec.ropeTables[0]?.style;
    expect(styleOf({})).toBe('interleaved');
    expect(styleOf({ config: { rope_interleave: false } })).toBe('half_split');
    const sparse = (config: Record<string, unknown>) =>
      described('glm4-moe-lite-bf16', { config, tensors: {} }).spec.layers.map(({ mlp }) => mlp.kind);
    expect(sparse({ mlp_layer_types: undefined })).toEqual(['dense', 'moe']);
    expect(sparse({ mlp_layer_types: undefined, first_k_dense_replace: 1 })).toEqual(['dense', 'moe']);
  });

  const invalid: readonly Refusal[] = [
    [
      'layer types that do not fit',
      'glm4-moe-lite-bf16',
      { config: { mlp_layer_types: ['dense'] } },
      /"mlp_layer_types".*2 layers.*1 types/,
    ],
    [
      'an unknown layer type',
      'glm4-moe-lite-bf16',
      { config: { mlp_layer_types: ['dense', 'hash'] } },
      /"mlp_layer_types".*"dense" or "sparse".*hash/,
    ],
    ['no latent', 'glm4-moe-lite-bf16', { config: { kv_lora_rank: undefined } }, /"kv_lora_rank".*nothing/],
    [
      'heads of another size',
      'glm4-moe-lite-bf16',
      { config: { v_head_dim: 24 } },
      /kv_b_proj.weight".*\[144, 48\].*\[128, 48\]/,
    ],
    [
      'GGUF heads that are not split',
      'glm4-moe-lite-q8_0',
      { tensors: { 'blk.0.attn_k_b.weight': null } },
      /tensor "blk.0.attn_k_b.weight".*\[4, 32, 32\].*no such tensor/,
    ],
    [
      'a head no wider than what rotates',
      'glm4-moe-lite-q8_0',
      { keys: { 'deepseek2.attention.key_length_mla': number(32) } },
      /"deepseek2.attention.key_length_mla".*33/,
    ],
  ];
  refusals(invalid);
});

describe('what cannot be is named', () => {
  const invalid: readonly Refusal[] = [
    [
      'more experts per token than experts',
      'glm4-moe-bf16',
      { config: { num_experts_per_tok: 9 } },
      /"num_experts_per_tok".*at most the model's 8 experts.*9/,
    ],
    [
      'more experts per token than the groups hold',
      'glm4-moe-bf16',
      { config: { num_experts_per_tok: 5 } },
      /"num_experts_per_tok".*at most the 4 experts of 2 groups.*5/,
    ],
    [
      'groups that do not divide the experts',
      'glm4-moe-bf16',
      { config: { n_group: 3 } },
      /"n_group".*divisor of the 8 experts.*3/,
    ],
    [
      'more top groups than groups',
      'glm4-moe-bf16',
      { config: { n_group: 2, topk_group: 4 } },
      /"topk_group".*at most the 2 groups.*4/,
    ],
    [
      'a missing expert',
      'glm4-moe-bf16',
      { tensors: { 'model.layers.1.mlp.experts.5.up_proj.weight': null } },
      /tensor "model.layers.1.mlp.experts.5.up_proj.weight".*\[32, 32\].*no such tensor/,
    ],
    [
      'experts of another width than the config says',
      'mixtral-f32',
      { config: { intermediate_size: 64 } },
      /experts.0.w1.weight".*\[64, 32\].*\[48, 32\]/,
    ],
    [
      'a stack of fewer experts',
      'qwen3-moe-bf16',
      { tensors: { 'model.layers.0.mlp.experts.down_proj': { shape: [7, 32, 32] } } },
      /experts.down_proj".*\[8, 32, 32\].*\[7, 32, 32\]/,
    ],
    [
      'a GGUF stack of fewer experts',
      'qwen2-moe-q8_0',
      { keys: { 'qwen2moe.expert_count': number(7) } },
      /ffn_gate_inp.weight".*\[7, 32\].*\[6, 32\]/,
    ],
    [
      'a GGUF file with more experts per token than experts',
      'glm4-moe-q8_0',
      { keys: { 'glm4moe.expert_used_count': number(9) } },
      /"glm4moe.expert_used_count".*at most the model's 8 experts.*9/,
    ],
    [
      'more layers for further tokens than layers',
      'glm4-moe-q8_0',
      { keys: { 'glm4moe.nextn_predict_layers': number(4) } },
      /"glm4moe.nextn_predict_layers".*0..3/,
    ],
  ];
  refusals(invalid);

  test('a config that asks for millions of experts is refused at the first few', () => {
    const config = {
      n_routed_experts: 4096,
      n_group: 1,
      topk_group: 1,
      num_hidden_layers: 1024,
      num_experts_per_tok: 1,
    };
    const absent = [1, 2].flatMap((layer) =>
      ['weight', 'e_score_correction_bias'].map((name) => `model.layers.${layer}.mlp.gate.${name}`),
    );
    absent.push('model.layers.3.self_attn.q_proj.weight');
    const tensors = Object.fromEntries(absent.map((name) => [name, null]));
    // A thousand of experts, and each layer's others: norms, q, k, v, o, the router.
    expect(() => described('glm4-moe-bf16', { config, tensors })).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/expected [12]?\d{4} tensors/) }),
    );
  });

  test('an unknown router', () => {
    expect(() => described('qwen3-moe-q4_1', { keys: { 'qwen3moe.expert_gating_func': number(3) } })).toThrow(
      expect.objectContaining({
        code: 'unsupported_model',
        message: expect.stringMatching(/router function 3.*1 \(softmax\), 2 \(sigmoid\)/),
      }),
    );
  });
});
