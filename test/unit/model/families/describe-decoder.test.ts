import { beforeAll, describe, expect, test } from 'vitest';
import type { Checkpoint } from '../../../../lib/model/checkpoint-types';
import { describeDecoder } from '../../../../lib/model/families/registry';
import {
  type Change,
  checkpointOf,
  described,
  number,
  numbers,
  openFixtures,
  variant,
  words,
} from './variant';

beforeAll(() =>
  openFixtures([
    'llama-f32',
    'qwen2-bf16',
    'qwen3-sharded',
    'glm-f16',
    'glm4-bf16',
    'llama-q4_0',
    'chatglm-q4_1',
    'qwen3-q8_0',
  ]),
);

describe('what config.json leaves out is what transformers assumes', () => {
  test('llama: as many kv heads as heads, no biases, epsilon 1e-6, 2048 positions, own head when there is one', () => {
    const heads = {
      'model.layers.0.self_attn.k_proj.weight': { shape: [64, 64] },
      'model.layers.0.self_attn.v_proj.weight': { shape: [64, 64] },
    };
    const { spec, info } = described('llama-f32', {
      config: {
        num_key_value_heads: undefined,
        attention_bias: undefined,
        mlp_bias: undefined,
        rms_norm_eps: undefined,
        max_position_embeddings: undefined,
        head_dim: undefined,
        tie_word_embeddings: undefined,
        rope_parameters: undefined,
        num_hidden_layers: 1,
      },
      tensors: { ...heads, 'lm_head.weight': { shape: [384, 64] } },
    });
    expect(spec.layers[0]?.attention).toMatchObject({
      numKvHeads: 4,
      hasQkvBias: false,
      hasOutputBias: false,
      headDim: 16,
    });
    expect(spec.layers[0]?.norm.epsilon).toBe(1e-6);
    expect(spec.contextLength).toBe(2048);
    expect(spec.head?.isTied).toBe(false);
    expect(spec.ropeTables[0]?.frequencies[1]).toBeCloseTo(10_000 ** (-2 / 16), 15);
    expect(info.warnings).toMatchObject([
      { code: 'unused_tensors', message: expect.stringContaining('down_proj.bias') },
    ]);
  });

  test('glm and glm4: half of each head rotates, neighbours together; q, k and v have biases', () => {
    for (const name of ['glm-f16', 'glm4-bf16']) {
      const { spec } = described(name, {
        config: { rope_parameters: undefined, attention_bias: undefined, rms_norm_eps: undefined },
      });
      const { headDim } = spec.layers[0]?.attention ?? {};
      expect(spec.ropeTables[0]).toMatchObject({ rotaryDim: (headDim ?? 0) / 2, style: 'interleaved' });
      expect(spec.layers[0]?.attention).toMatchObject({ hasQkvBias: true, hasOutputBias: false });
      expect(spec.layers[0]?.norm.epsilon).toBe(1.5625e-7);
    }
  });

  test('qwen2: without layer types the window applies from max_window_layers on', () => {
    const windows = (config: Change['config']) =>
      described('qwen2-bf16', { config: { layer_types: undefined, ...config } }).spec.layers.map(
        ({ attention }) => attention.slidingWindow,
      );
    expect(windows({ max_window_layers: 1 })).toEqual([null, 24]);
    expect(windows({ max_window_layers: 0 })).toEqual([24, 24]);
    expect(windows({})).toEqual([null, 24]);
    expect(windows({ max_window_layers: 0, use_sliding_window: false })).toEqual([null, null]);
    expect(windows({ max_window_layers: undefined })).toEqual([null, null]);
  });

  test('qwen3: heads of 128 unless stated', () => {
    expect(() => described('qwen3-sharded', { config: { head_dim: undefined } })).toThrow(
      /expected shape \[128\]/,
    );
  });
});

describe('norms', () => {
  test('glm4 norms each branch twice, the others once', () => {
    expect(described('glm4-bf16', {}).spec.layers[0]?.normPlacement).toBe('sandwich');
    expect(described('glm-f16', {}).spec.layers[0]?.normPlacement).toBe('pre');
    const roles = described('glm4-bf16', {}).tensors.map(({ role }) => role);
    expect(roles).toContain('layers.1.attention_post_norm');
    expect(roles).toContain('layers.1.mlp_post_norm');
  });
});

test('llama GGUF files: row r of a head is stored at 2r, its partner behind it', () => {
  const q = described('llama-q4_0', {}).tensors.find(({ role }) => role === 'layers.0.attention.q');
  expect([...(q?.source.rowOrder ?? [])].slice(0, 18)).toEqual([
    0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, 16, 18,
  ]);
  const v = described('llama-q4_0', {}).tensors.find(({ role }) => role === 'layers.0.attention.v');
  expect(v?.source.rowOrder).toBeNull();
});

test('fused tensors are cut by rows', () => {
  const { tensors } = described('chatglm-q4_1', {});
  const sliceOf = (role: string) =>
    tensors.find((tensor) => tensor.role === `layers.0.${role}`)?.source.slices[0];
  // 64 q rows, 32 k rows, 32 v rows of 64 / 32 blocks of 20 bytes.
  const start = sliceOf('attention.q')?.offset ?? 0;
  expect(sliceOf('attention.q')?.byteLength).toBe(64 * 40);
  expect(sliceOf('attention.k')).toMatchObject({ offset: start + 64 * 40, byteLength: 32 * 40 });
  expect(sliceOf('attention.v')).toMatchObject({ offset: start + 96 * 40, byteLength: 32 * 40 });
  const biasStart = sliceOf('attention.q.bias')?.offset ?? 0;
  expect(sliceOf('attention.v.bias')).toMatchObject({ offset: biasStart + 96 * 4, byteLength: 32 * 4 });
  expect(sliceOf('mlp.up')?.offset).toBe((sliceOf('mlp.gate')?.offset ?? 0) + 160 * 40);
});

test('parameters count each tensor once', () => {
  const { info, spec } = described('llama-f32', {});
  const perLayer = 64 * 64 * 2 + 32 * 64 * 2 + 3 * 160 * 64 + (64 + 32 + 32 + 64) + (160 + 160 + 64) + 2 * 64;
  expect(info.numParameters).toBe(384 * 64 + 64 + 2 * perLayer);
  expect(spec.head?.isTied).toBe(true);
});

test('rotary buffers of old exporters are passed over in silence, other leftovers with a warning', () => {
  const leftover = (name: string) => described('llama-f32', { tensors: { [name]: {} } }).info.warnings;
  expect(leftover('model.layers.0.self_attn.rotary_emb.inv_freq')).toEqual([]);
  expect(leftover('lm_head.weight')).toEqual([]);
  expect(leftover('model.vision.weight')).toMatchObject([{ code: 'unused_tensors' }]);
});

test('glm: the default rope base with a long context is a warning', () => {
  const warningsAt = (length: number) =>
    described('glm-f16', { config: { rope_parameters: undefined, max_position_embeddings: length } }).info
      .warnings;
  expect(warningsAt(131_072)).toMatchObject([
    { code: 'rope_base', message: expect.stringContaining('131072') },
  ]);
  expect(warningsAt(32_768)).toEqual([]);
});

test('stop tokens outside the vocabulary are refused', () => {
  const checkpoint = { ...variant('llama-f32', {}), eosTokenIds: [383, 384] };
  expect(() => describeDecoder(checkpoint)).toThrow(/eos_token_id.*below the vocabulary size 384, found 384/);
});

test('GGUF settings may be lists when all layers agree', () => {
  const { spec } = described('llama-q4_0', { keys: { 'llama.attention.head_count_kv': numbers([2, 2]) } });
  expect(spec.layers[1]?.attention.numKvHeads).toBe(2);
});

test('GGUF yarn: the attention factor follows from the factor, times its key', () => {
  const table = described('qwen3-q8_0', { keys: { 'qwen3.rope.scaling.attn_factor': number(2) } }).spec
    .ropeTables[0];
  expect(table?.attentionFactor).toBeCloseTo(2 * (0.1 * Math.log(4) + 1), 12);
});

test('a sliding window that no engine applies is a warning', () => {
  const { info } = described('llama-q4_0', { keys: { 'llama.attention.sliding_window': number(4096) } });
  expect(info.warnings).toMatchObject([{ code: 'key_ignored' }]);
});

describe('a model that contradicts itself is refused with the place', () => {
  const q = 'model.layers.0.self_attn.q_proj.weight';
  const broken: readonly (readonly [string, string, Change, RegExp])[] = [
    ['no hidden size', 'llama-f32', { config: { hidden_size: undefined } }, /hidden_size.*found nothing/],
    [
      '2^31 layers',
      'llama-f32',
      { config: { num_hidden_layers: 2 ** 31 } },
      /num_hidden_layers.*1\.\.1024, found 2147483648/,
    ],
    ['1.5 layers', 'llama-f32', { config: { num_hidden_layers: 1.5 } }, /whole number/],
    [
      '3 kv heads of 4',
      'llama-f32',
      { config: { num_key_value_heads: 3 } },
      /num_key_value_heads.*divisor of the 4 query heads, found 3/,
    ],
    ['more kv heads than heads', 'llama-f32', { config: { num_key_value_heads: 8 } }, /found 8/],
    [
      'heads that do not divide',
      'llama-f32',
      { config: { head_dim: undefined, num_attention_heads: 6 } },
      /divisor of hidden_size 64, found 6/,
    ],
    ['epsilon 0', 'llama-f32', { config: { rms_norm_eps: 0 } }, /rms_norm_eps.*between 0 and 0.1, found 0/],
    ['epsilon 1', 'llama-f32', { config: { rms_norm_eps: 1 } }, /rms_norm_eps/],
    [
      'a tensor missing',
      'llama-f32',
      { tensors: { [q]: null } },
      /"model.layers.0.self_attn.q_proj.weight".*\[64, 64\].*no such tensor/,
    ],
    [
      'a bias missing',
      'qwen2-bf16',
      { tensors: { 'model.layers.1.self_attn.k_proj.bias': null } },
      /k_proj.bias.*no such tensor/,
    ],
    ['a head missing', 'qwen2-bf16', { tensors: { 'lm_head.weight': null } }, /lm_head.weight/],
    [
      'a shape turned round',
      'llama-f32',
      { tensors: { 'model.layers.0.mlp.down_proj.weight': { shape: [160, 64] } } },
      /expected shape \[64, 160\].*found shape \[160, 64\]/,
    ],
    [
      'a norm with two dims',
      'llama-f32',
      { tensors: { 'model.norm.weight': { shape: [1, 64] } } },
      /model.norm.weight.*\[64\].*\[1, 64\]/,
    ],
    [
      'a norm without dims',
      'llama-f32',
      { tensors: { 'model.norm.weight': { shape: [] } } },
      /model.norm.weight.*\[64\].*found shape \[\]/,
    ],
    [
      'more tokens than rows, no vocab_size',
      'llama-q4_0',
      { tensors: { 'token_embd.weight': { shape: [383, 64] } }, keys: { 'llama.vocab_size': null } },
      /tokenizer.ggml.tokens.*at most 383 tokens.*found 384/,
    ],
    [
      'another vocabulary',
      'llama-f32',
      { config: { vocab_size: 400 } },
      /embed_tokens.*\[400, 64\].*\[384, 64\]/,
    ],
    [
      'layer types for other layers',
      'qwen2-bf16',
      { config: { layer_types: ['full_attention'] } },
      /layer_types.*2 layers, found 1/,
    ],
    [
      'more layers than tensors',
      'llama-f32',
      { config: { num_hidden_layers: 3 } },
      /expected 16 tensors that the config asks for, found none of model.layers.2.input_layernorm.weight, .*, and 11 more/,
    ],
    [
      'a NaN epsilon',
      'llama-q4_0',
      { keys: { 'llama.attention.layer_norm_rms_epsilon': number(Number.NaN) } },
      /rms_epsilon.*finite number, found f64 NaN/,
    ],
    [
      'no epsilon',
      'llama-q4_0',
      { keys: { 'llama.attention.layer_norm_rms_epsilon': null } },
      /rms_epsilon.*found nothing/,
    ],
    [
      'a NaN rope base',
      'llama-q4_0',
      { keys: { 'llama.rope.freq_base': number(Number.NaN) } },
      /freq_base.*finite/,
    ],
    [
      'a huge block count',
      'llama-q4_0',
      { keys: { 'llama.block_count': number(2 ** 32 - 1) } },
      /block_count.*1\.\.1024, found f64 4294967295/,
    ],
    ['no block count', 'llama-q4_0', { keys: { 'llama.block_count': null } }, /block_count.*found nothing/],
    [
      'head counts for other layers',
      'llama-q4_0',
      { keys: { 'llama.attention.head_count': numbers([4]) } },
      /each of the 2 layers, found 1/,
    ],
    [
      'head counts of 0',
      'llama-q4_0',
      { keys: { 'llama.attention.head_count': numbers([0, 0]) } },
      /1\.\.1024, found 0/,
    ],
    [
      'more tokens than rows',
      'llama-q4_0',
      { tensors: { 'token_embd.weight': { shape: [383, 64] } }, keys: { 'llama.vocab_size': number(384) } },
      /vocab_size.*383, the rows/,
    ],
    [
      'rope divisors of another length',
      'llama-q4_0',
      { ropeVector: new Float32Array(3).fill(1) },
      /rope_freqs.weight.*8 numbers, found 3/,
    ],
    ['a rope divisor of 0', 'llama-q4_0', { ropeVector: new Float32Array(8) }, /above 0, found 0 at index 0/],
    [
      'yarn without its original length',
      'qwen3-q8_0',
      { keys: { 'qwen3.rope.scaling.original_context_length': null } },
      /original_context_length.*found nothing/,
    ],
    [
      'longrope without its factors',
      'qwen3-q8_0',
      { keys: { 'qwen3.rope.scaling.type': words('longrope') } },
      /"rope_factors_short.weight".*16 numbers, found no such tensor/,
    ],
    [
      'more rotated dims than a head has',
      'qwen3-q8_0',
      { keys: { 'qwen3.rope.dimension_count': number(64) } },
      /dimension_count.*2\.\.32, found 64/,
    ],
  ];
  test.each(broken)('%s', (_name, fixture, change, message) => {
    expect(() => described(fixture, change)).toThrow(
      expect.objectContaining({ code: 'invalid_model_file', message: expect.stringMatching(message) }),
    );
  });
});

describe('what is not supported is named, with what is', () => {
  const q = 'model.layers.0.self_attn.q_proj.weight';
  const unsupported: readonly (readonly [string, string, Change, RegExp])[] = [
    [
      'another family',
      'llama-f32',
      { config: { model_type: 'mamba' } },
      /model_type "mamba".*llama, mistral, .*chatglm, glm, glm4, glm4_moe/,
    ],
    [
      'a family that is a property name',
      'llama-f32',
      { config: { model_type: 'constructor' } },
      /"constructor"/,
    ],
    [
      'a tagger of tokens',
      'llama-f32',
      { config: { architectures: ['LlamaForTokenClassification'] } },
      /"LlamaForTokenClassification".*LlamaForCausalLM/,
    ],
    [
      'a quantized checkpoint',
      'llama-f32',
      { config: { quantization_config: { quant_method: 'bitsandbytes' } } },
      /quantization method "bitsandbytes".*gptq, awq, compressed-tensors, fp8/,
    ],
    ['another activation', 'llama-f32', { config: { hidden_act: 'relu6' } }, /hidden_act "relu6".*silu/],
    [
      'another layer type',
      'qwen2-bf16',
      { config: { layer_types: ['full_attention', 'linear_attention'] } },
      /"linear_attention".*full_attention/,
    ],
    [
      'a matrix of whole numbers',
      'llama-f32',
      { tensors: { [q]: { typeName: 'I8', format: null } } },
      /q_proj.weight" of type I8.*BF16/,
    ],
    [
      'a norm in blocks',
      'llama-q4_0',
      { tensors: { 'output_norm.weight': { typeName: 'Q8_0', format: 'q8_0' } } },
      /output_norm.weight" of type Q8_0.*F32, F16, BF16/,
    ],
    [
      'a mixture of experts in a dense family',
      'qwen3-q8_0',
      { keys: { 'qwen3.expert_count': number(8) } },
      /"qwen3.expert_count"/,
    ],
    [
      'layers that differ',
      'llama-q4_0',
      { keys: { 'llama.attention.head_count_kv': numbers([2, 4]) } },
      /different "llama.attention.head_count_kv" by layer/,
    ],
    [
      'another rope scaling',
      'qwen3-q8_0',
      { keys: { 'qwen3.rope.scaling.type': words('spiral') } },
      /"spiral".*none, linear, yarn, longrope/,
    ],
  ];
  test.each(unsupported)('%s', (_name, fixture, change, message) => {
    expect(() => described(fixture, change)).toThrow(
      expect.objectContaining({ code: 'unsupported_model', message: expect.stringMatching(message) }),
    );
  });

  test('another GGUF architecture', () => {
    const original = checkpointOf('llama-q4_0');
    const config = { ...original.config, architecture: 'rwkv7' } as Checkpoint['config'];
    expect(() => describeDecoder({ ...original, config })).toThrow(
      /GGUF architecture "rwkv7".*llama, mistral3, .*chatglm, glm4, glm4moe/,
    );
  });
});
