import { beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../../lib/model/checkpoint-types';
import { describeDecoder } from '../../../../lib/model/families/registry';
import type { DecoderSpec } from '../../../../lib/native/decoder-spec';
import { type Change, checkpointOf, configOf, described, number, openFixtures, variant } from './variant';

beforeAll(() =>
  openFixtures([
    'mistral-bf16',
    'mistral3-q8_0',
    'smollm3-bf16',
    'smollm3-q8_0',
    'gemma2-f32',
    'gemma2-q8_0',
    'gemma3-bf16',
    'gemma3-q8_0',
    'phi3-f16',
    'phi3-q8_0',
    'gpt2-f32',
    'chatglm-f16',
  ]),
);

// Goal: what the fixtures' own configs do not say. What they say is held against transformers in test/parity.
const specOf = (name: string, config: NonNullable<Change['config']>): DecoderSpec =>
  described(name, { config }).spec;
const windowsOf = ({ layers }: DecoderSpec) => layers.map(({ attention }) => attention.slidingWindow);
const ropesOf = ({ layers }: DecoderSpec) => layers.map(({ attention }) => attention.ropeTable);
const refusal = (name: string, change: Change, code: string, message: RegExp) =>
  expect(() => described(name, change)).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) }),
  );

describe('mistral', () => {
  test('no window when the config says null, the default when it says nothing', () => {
    expect(windowsOf(specOf('mistral-bf16', { sliding_window: null }))).toEqual([null, null]);
    expect(windowsOf(specOf('mistral-bf16', { sliding_window: undefined }))).toEqual([4096, 4096]);
  });

  test('mistral3 files with a temperature of attention are refused', () => {
    const keys = { 'mistral3.attention.temperature_scale': number(0.1) };
    refusal('mistral3-q8_0', { keys }, 'unsupported_model', /"mistral3.attention.temperature_scale"/);
  });
});

describe('smollm3', () => {
  test('layers without rotation: as listed, else by interval, else every fourth', () => {
    const listed = (config: JsonObject) => ropesOf(specOf('smollm3-bf16', config));
    expect(listed({ no_rope_layers: [0, 1, 1, 0] })).toEqual([null, 0, 0]);
    const byInterval = (no_rope_layer_interval: number | undefined) =>
      ropesOf(specOf('smollm3-bf16', { no_rope_layers: undefined, no_rope_layer_interval }));
    expect(byInterval(3)).toEqual([0, 0, null]);
    expect(byInterval(undefined)).toEqual([0, 0, 0]);
    expect(ropesOf(described('smollm3-q8_0', {}).spec)).toEqual([0, 0, 0, null, 0]);
  });

  test('a list shorter than the layers is refused', () => {
    refusal(
      'smollm3-bf16',
      { config: { no_rope_layers: [1, 0] } },
      'invalid_model_file',
      /each of the 3 layers/,
    );
  });

  test('a window applies where nothing rotates', () => {
    const config = { use_sliding_window: true, sliding_window: 32, layer_types: undefined };
    expect(windowsOf(specOf('smollm3-bf16', config))).toEqual([null, 32, null]);
  });
});

describe('gemma2', () => {
  test('caps: none when the config says null, the defaults when it says nothing', () => {
    const capsOf = (config: NonNullable<Change['config']>) => {
      const { layers, head } = specOf('gemma2-f32', config);
      return [layers[0]?.attention.softCap, head?.softCap];
    };
    expect(capsOf({ attn_logit_softcapping: null, final_logit_softcapping: null })).toEqual([null, null]);
    expect(capsOf({ attn_logit_softcapping: undefined, final_logit_softcapping: undefined })).toEqual([
      50, 30,
    ]);
  });

  test('without layer types every other layer slides', () => {
    const config = { layer_types: undefined, sliding_window: undefined };
    expect(windowsOf(specOf('gemma2-f32', config))).toEqual([4096, null]);
    expect(specOf('gemma2-f32', { query_pre_attn_scalar: undefined }).layers[0]?.attention.scale).toBe(
      1 / 16,
    );
  });

  test('norms are stored as w - 1 by transformers, whole by converters', () => {
    expect(described('gemma2-f32', {}).spec.finalNorm?.hasUnitOffset).toBe(true);
    expect(described('gemma2-q8_0', {}).spec.finalNorm?.hasUnitOffset).toBe(false);
  });

  test('bidirectional attention is refused', () => {
    const config = { use_bidirectional_attention: true };
    refusal('gemma2-f32', { config }, 'unsupported_model', /use_bidirectional_attention/);
  });
});

describe('gemma3', () => {
  const older = {
    rope_parameters: undefined,
    rope_theta: 1e5,
    rope_local_base_freq: 1e4,
    rope_scaling: { rope_type: 'linear', factor: 8 },
  };

  test('older keys of rotation mean the same', () => {
    expect(specOf('gemma3-bf16', older)).toEqual(described('gemma3-bf16', {}).spec);
  });

  test('linear scaling is part of the context that the config states', () => {
    expect(specOf('gemma3-bf16', older).contextLength).toBe(512);
  });

  test('what the larger models leave out is known', () => {
    const shapes = (names: readonly string[], shape: readonly number[]) =>
      Object.fromEntries(names.map((name) => [name, { shape }]));
    const norms = [0, 1, 2, 3].flatMap((layer) =>
      ['q', 'k'].map((part) => `model.layers.${layer}.self_attn.${part}_norm.weight`),
    );
    const { spec } = described('gemma3-bf16', {
      config: {
        head_dim: 8,
        num_attention_heads: undefined,
        num_key_value_heads: undefined,
        vocab_size: undefined,
        max_position_embeddings: undefined,
        layer_types: undefined,
        rope_parameters: undefined,
        hidden_activation: undefined,
      },
      tensors: { ...shapes(norms, [8]), ...shapes(['model.embed_tokens.weight'], [262_208, 32]) },
    });
    expect(spec).toMatchObject({ vocabSize: 262_208, contextLength: 131_072 });
    expect(spec.layers[0]?.attention).toMatchObject({ numQHeads: 8, numKvHeads: 4 });
    expect(spec.layers[0]?.mlp.activation).toBe('gelu_tanh');
    expect(spec.ropeTables.map(({ frequencies }) => frequencies[1])).toEqual([1e6 ** -0.25, 1e4 ** -0.25]);
  });

  test.each([
    ['language_model.model.', 'language_model.lm_head.weight'],
    ['model.language_model.', 'lm_head.weight'],
  ])('the text model inside one that sees, under %s', (prefix) => {
    const inner = described('gemma3-bf16', {});
    const nested = variant('gemma3-bf16', {
      config: {
        model_type: 'gemma3',
        architectures: ['Gemma3ForConditionalGeneration'],
        text_config: configOf('gemma3-bf16'),
      },
      tensors: { 'vision_tower.patch.weight': {}, 'multi_modal_projector.weight': {} },
    });
    const renamed = new Map(
      [...nested.tensors].map(([name, tensor]) => [name.replace(/^model\./, prefix), tensor]),
    );
    const seeing = describeDecoder({ ...nested, tensors: renamed });
    expect(seeing.spec).toEqual(inner.spec);
    expect(seeing.tensors).toEqual(inner.tensors);
    expect(seeing.info.warnings).toMatchObject([
      {
        code: 'text_only',
        message: expect.stringMatching(/vision_tower \(1 tensors\), multi_modal_projector/),
      },
    ]);
  });

  test('what stands around or in the text part and is not supported is named', () => {
    const wrapped = (config: object) =>
      described('gemma3-bf16', { config: { model_type: 'gemma3', text_config: {}, ...config } });
    expect(() => wrapped({ architectures: ['Gemma3ForSequenceClassification'] })).toThrowError(
      /Gemma3ForSequenceClassification.*Gemma3ForConditionalGeneration/,
    );
    const strange = { architectures: undefined, text_config: { model_type: 'mamba' } };
    expect(() => wrapped(strange)).toThrowError(/text_config.model_type "mamba".*gemma3_text/);
  });

  test('GGUF: the local base is 10,000, the global one 1,000,000 unless stated', () => {
    const keys = { 'gemma3.rope.freq_base': null, 'gemma3.rope.scaling.type': null };
    const { spec } = described('gemma3-q8_0', { keys });
    expect(spec.ropeTables.map(({ frequencies }) => frequencies[1])).toEqual([1e6 ** -0.125, 1e4 ** -0.125]);
    expect(ropesOf(spec)).toEqual([1, 1, 1, 1, 1, 0, 1]);
  });
});

describe('phi3', () => {
  test('longrope: two tables, and the row of the config that says where the second begins', () => {
    for (const name of ['phi3-f16', 'phi3-q8_0']) {
      const { spec } = described(name, {});
      expect(spec).toMatchObject({ ropeSwitchLength: 128, contextLength: 512 });
      expect(spec.ropeTables).toHaveLength(2);
    }
    expect(specOf('phi3-f16', { rope_parameters: { rope_theta: 1e4 } })).toMatchObject({
      ropeSwitchLength: null,
      ropeTables: [{}],
    });
  });

  test('a window of 0 in GGUF is none', () => {
    const keys = { 'phi3.attention.sliding_window': number(0) };
    expect(windowsOf(described('phi3-q8_0', { keys }).spec)).toEqual([null, null]);
  });
});

describe('gpt2', () => {
  test('the original files name the tensors without a prefix', () => {
    const { tensors, ...rest } = checkpointOf('gpt2-f32');
    const renamed = [...tensors].map(([name, tensor]) => [name.replace('transformer.', ''), tensor] as const);
    expect(describeDecoder({ ...rest, tensors: new Map(renamed) })).toEqual(described('gpt2-f32', {}));
  });

  test('masks that old exporters saved are passed over', () => {
    const tensors = { 'transformer.h.0.attn.bias': { shape: [1, 1, 512, 512] } };
    expect(described('gpt2-f32', { tensors }).info.warnings).toEqual([]);
  });

  test('positions shorter than the context are refused', () => {
    refusal(
      'gpt2-f32',
      { config: { n_positions: 1024 } },
      'invalid_model_file',
      /wpe.*\[1024, 32\].*\[512, 32\]/,
    );
  });

  test('variants that nobody publishes are refused', () => {
    const config = { scale_attn_by_inverse_layer_idx: true };
    refusal('gpt2-f32', { config }, 'unsupported_model', /scale_attn_by_inverse_layer_idx true/);
    refusal('gpt2-f32', { config: { activation_function: 'tanh' } }, 'unsupported_model', /"tanh".*gelu_new/);
  });
});

describe('chatglm', () => {
  test('the rotation ratio multiplies the base, and is 1 when absent', () => {
    const base = (config: NonNullable<Change['config']>) =>
      specOf('chatglm-f16', config).ropeTables[0]?.frequencies[1];
    expect(base({ rope_ratio: 500 })).toBe(5e6 ** -0.25);
    expect(base({ rope_ratio: undefined })).toBe(1e4 ** -0.25);
  });

  test('the original buffers of rotation are passed over', () => {
    expect(described('chatglm-f16', {}).info.warnings).toEqual([]);
    expect(checkpointOf('chatglm-f16').tensors.has('transformer.rotary_pos_emb.inv_freq')).toBe(true);
  });

  test('what the remote code could do and no checkpoint does is refused', () => {
    const refused: readonly (readonly [JsonObject, RegExp])[] = [
      [{ multi_query_attention: false }, /multi_query_attention false is not supported \(supported: true\)/],
      [{ apply_residual_connection_post_layernorm: true }, /apply_residual_connection_post_layernorm true/],
      [{ quantization_bit: 4 }, /quantization_bit 4.*BF16/],
      [{ architectures: ['ChatGLMForTokenClassification'] }, /"ChatGLMForTokenClassification"/],
    ];
    for (const [config, message] of refused) refusal('chatglm-f16', { config }, 'unsupported_model', message);
    const conditional = { architectures: ['ChatGLMForConditionalGeneration'] };
    expect(specOf('chatglm-f16', conditional)).toEqual(specOf('chatglm-f16', {}));
  });
});
