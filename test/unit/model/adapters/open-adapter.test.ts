import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AdapterDescription } from '../../../../lib/model/adapters/adapter-description';
import { openAdapter } from '../../../../lib/model/adapters/open-adapter';
import { openCheckpoint } from '../../../../lib/model/checkpoint';
import { describeDecoder } from '../../../../lib/model/families/registry';
import type { DecoderSpec } from '../../../../lib/native/decoder-spec';
import { ADAPTERS, fixturePath } from '../../../parity/fixtures';
import { f32, ggufFile, key, stringKey, Type, tensor } from '../gguf/gguf-builder';

const folder = mkdtempSync(join(tmpdir(), 'autoglm-adapters-'));
afterAll(() => rmSync(folder, { recursive: true }));

const specs = new Map<string, DecoderSpec>();
const specOf = (name: string): DecoderSpec => specs.get(name) as DecoderSpec;
beforeAll(async () => {
  for (const name of ['llama-f32', 'gpt2-f32', 'phi3-f16', 'qwen3-q8_0', 'mixtral-f32']) {
    specs.set(name, describeDecoder(await openCheckpoint(fixturePath(name))).spec);
  }
});

/** hiddenSize 64, 4 query and 2 KV heads of 16, intermediateSize 160, 2 layers. */
const LLAMA = 'llama-f32';

const places = ({ parts }: AdapterDescription) =>
  parts.map(({ layer, product, firstColumn, scale, a, b }) => [
    `${layer} ${product}`,
    firstColumn,
    `${b.shape[0]} ${a.shape[0]} ${a.shape[1]}`,
    Math.round(scale * 1e6) / 1e6,
  ]);

type Config = Readonly<Record<string, unknown>>;
const BASIC: Config = { peft_type: 'LORA', r: 2, lora_alpha: 4, bias: 'none' };
const PREFIX = 'base_model.model.model.layers';

/** A PEFT directory whose tensors have these shapes. */
function peft(
  config: Config | string,
  shapes: Readonly<Record<string, readonly number[]>>,
  dtype = 'F32',
): string {
  const directory = mkdtempSync(join(folder, 'peft-'));
  let end = 0;
  const header: Record<string, unknown> = {};
  for (const [name, shape] of Object.entries(shapes)) {
    const begin = end;
    end += shape.reduce((product, dim) => product * dim, dtype === 'F32' ? 4 : 8);
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(
    join(directory, 'adapter_model.safetensors'),
    Buffer.concat([length, text, Buffer.alloc(end)]),
  );
  const configText = typeof config === 'string' ? config : JSON.stringify(config);
  writeFileSync(join(directory, 'adapter_config.json'), configText);
  return directory;
}

/** A pair of matrices of one module. */
const pair = (module: string, out: number, rank: number, columns: number) => ({
  [`${PREFIX}.${module}.lora_A.weight`]: [rank, columns],
  [`${PREFIX}.${module}.lora_B.weight`]: [out, rank],
});
const Q = pair('0.self_attn.q_proj', 64, 2, 64);

const open = (path: string, base = LLAMA) => openAdapter(path, specOf(base));

describe('what peft wrote', () => {
  test('ranks and scales follow the patterns, places the spec', async () => {
    const described = await open(join(ADAPTERS, 'llama-patterns'));
    expect(described).toMatchObject({ format: 'peft', rank: 9, baseModel: 'llama-f32' });
    const layer = (n: number, o: number, down: number, downRank: number) => [
      [`${n} gateUp`, 0, '160 4 64', 1.5],
      [`${n} gateUp`, 160, '160 4 64', 1.5],
      [`${n} qkv`, 0, '64 9 64', 0.666667],
      [`${n} qkv`, 64, '32 4 64', 1.5],
      [`${n} qkv`, 96, '32 4 64', 4],
      [`${n} o`, 0, '64 4 64', o],
      [`${n} down`, 0, `64 ${downRank} 160`, down],
    ];
    const byPlace = (list: readonly unknown[]) => list.map((each) => JSON.stringify(each)).sort();
    expect(byPlace(places(described))).toEqual(byPlace([...layer(0, 0.75, 1.5, 4), ...layer(1, 1.5, 3, 2)]));
  });

  test('fused modules cover all the columns they have, rank-stabilised ones divide by the root', async () => {
    expect(places(await open(join(ADAPTERS, 'gpt2-fused'), 'gpt2-f32'))).toContainEqual([
      '0 qkv',
      0,
      expect.stringMatching(/^(\d+) 4 /),
      2,
    ]);
    const phi3 = places(await open(join(ADAPTERS, 'phi3-fused'), 'phi3-f16'));
    expect(phi3.map(([where]) => where)).toEqual(
      expect.arrayContaining(['0 qkv', '0 o', '0 gateUp', '0 down']),
    );
    expect(phi3.every(([, first]) => first === 0)).toBe(true);
    const stabilised = await open(join(ADAPTERS, 'llama-rslora'));
    expect(new Set(places(stabilised).map((place) => place[3]))).toEqual(new Set([1.423025]));
    expect(new Set(stabilised.parts.map(({ layer, a }) => `${layer} ${a.format}`))).toEqual(
      new Set(['1 bf16']),
    );
  });

  test('a safetensors file or a config stands for its directory; names of adapters in tensors are passed over', async () => {
    const [a, b] = Object.entries(Q) as [[string, number[]], [string, number[]]];
    const named = {
      [a[0].replace('.weight', '.default.weight')]: a[1],
      [b[0].replace('.weight', '.default.weight')]: b[1],
    };
    const directory = peft(BASIC, named);
    const expected = [['0 qkv', 0, '64 2 64', 2]];
    for (const path of [
      directory,
      join(directory, 'adapter_model.safetensors'),
      join(directory, 'adapter_config.json'),
    ])
      expect(places(await open(path))).toEqual(expected);
  });
});

describe('a GGUF adapter', () => {
  test('has the parts of its PEFT twin, the rows of q and k back in order', async () => {
    const gguf = await open(join(ADAPTERS, 'llama-plain.gguf'));
    const twin = await open(join(ADAPTERS, 'llama-plain'));
    const sorted = (each: AdapterDescription) => places(each).map(String).sort();
    expect(sorted(gguf)).toEqual(sorted(twin));
    const orders = gguf.parts.map(({ product, b }) => [product, b.rowOrder?.slice(0, 3)]);
    for (const [product, order] of orders)
      expect(order).toEqual(product === 'qkv' ? Int32Array.of(0, 2, 4) : undefined);
  });

  const adapterFile = (keys: readonly Buffer[]): string => {
    const path = join(mkdtempSync(join(folder, 'gguf-')), 'adapter.gguf');
    writeFileSync(path, ggufFile({ keys, tensors: TENSORS, dataSize: 1024 }));
    return path;
  };
  const KEYS = [
    stringKey('general.architecture', 'qwen3'),
    stringKey('general.type', 'adapter'),
    stringKey('adapter.type', 'lora'),
    key('adapter.lora.alpha', Type.f32, f32(6)),
  ];
  const TENSORS = [
    tensor({ name: 'blk.0.attn_q.weight.lora_a', dims: [64, 2], type: 0, offset: 0 }),
    tensor({ name: 'blk.0.attn_q.weight.lora_b', dims: [2, 64], type: 0, offset: 512 }),
  ];

  test('of an architecture whose rows are in order stays as it is', async () => {
    const { parts } = await open(adapterFile(KEYS));
    expect(parts.map(({ scale, b }) => [scale, b.rowOrder])).toEqual([[3, null]]);
  });

  test.each([
    ['a model', [KEYS[0], ...KEYS.slice(2)], 'unsupported_model', /type "model"/],
    [
      'another kind',
      [KEYS[0], KEYS[1], stringKey('adapter.type', 'other'), KEYS[3]],
      'unsupported_model',
      /"other"/,
    ],
    ['no alpha', KEYS.slice(0, 3), 'invalid_model_file', /adapter.lora.alpha/],
  ])('that is %s is refused', async (_, keys, code, message) => {
    const refused = open(adapterFile(keys as Buffer[]));
    await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

describe('refusals name what is wrong', () => {
  const cases: readonly [string, () => string, string, RegExp][] = [
    ['DoRA', () => peft({ ...BASIC, use_dora: true }, Q), 'unsupported_model', /use_dora/],
    ['biases', () => peft({ ...BASIC, bias: 'lora_only' }, Q), 'unsupported_model', /bias "lora_only"/],
    [
      'saved modules',
      () => peft({ ...BASIC, modules_to_save: ['lm_head'] }, Q),
      'unsupported_model',
      /modules_to_save.*lm_head/,
    ],
    ['another method', () => peft({ ...BASIC, peft_type: 'LOHA' }, Q), 'unsupported_model', /"LOHA"/],
    [
      'expert tensors',
      () => peft({ ...BASIC, target_parameters: ['x'] }, Q),
      'unsupported_model',
      /target_parameters/,
    ],
    [
      'replicated layers',
      () => peft({ ...BASIC, layer_replication: [[0, 1]] }, Q),
      'unsupported_model',
      /layer_replication/,
    ],
    [
      'embeddings',
      () => peft(BASIC, { 'base_model.model.model.embed_tokens.lora_embedding_A': [2, 384] }),
      'unsupported_model',
      /lora_embedding_A/,
    ],
    [
      'a saved head',
      () => peft(BASIC, { ...Q, 'base_model.model.lm_head.weight': [384, 64] }),
      'unsupported_model',
      /lm_head.weight/,
    ],
    [
      'a head',
      () =>
        peft(BASIC, {
          'base_model.model.lm_head.lora_A.weight': [2, 64],
          'base_model.model.lm_head.lora_B.weight': [384, 2],
        }),
      'unsupported_model',
      /"lm_head"/,
    ],
    [
      'a pattern that is no name',
      () => peft({ ...BASIC, rank_pattern: { '(a+)+$': 2 } }, Q),
      'unsupported_model',
      /rank_pattern/,
    ],
    [
      'a pattern without a number',
      () => peft({ ...BASIC, alpha_pattern: { q_proj: 'x' } }, Q),
      'invalid_model_file',
      /alpha_pattern/,
    ],
    [
      'a rank that the config does not have',
      () => peft({ ...BASIC, r: 3 }, Q),
      'invalid_model_file',
      /rank 3.*rank 2/,
    ],
    [
      'a layer that the config leaves out',
      () => peft({ ...BASIC, layers_to_transform: 1 }, Q),
      'invalid_model_file',
      /layers_to_transform.*layer 0/,
    ],
    [
      'a layer that the model lacks',
      () => peft(BASIC, pair('7.self_attn.q_proj', 64, 2, 64)),
      'invalid_model_file',
      /layers 0\.\.1.*layer 7/,
    ],
    [
      'wrong columns',
      () => peft(BASIC, pair('0.self_attn.q_proj', 64, 2, 48)),
      'invalid_model_file',
      /\[2, 64\].*\[2, 48\]/,
    ],
    [
      'wrong rows',
      () => peft(BASIC, pair('0.self_attn.q_proj', 32, 2, 64)),
      'invalid_model_file',
      /\[64, 2\].*\[32, 2\]/,
    ],
    [
      'ranks that differ',
      () =>
        peft(BASIC, {
          [`${PREFIX}.0.mlp.up_proj.lora_A.weight`]: [2, 64],
          [`${PREFIX}.0.mlp.up_proj.lora_B.weight`]: [160, 3],
        }),
      'invalid_model_file',
      /\[160, 2\].*\[160, 3\]/,
    ],
    [
      'half a pair',
      () => peft(BASIC, { [`${PREFIX}.0.mlp.up_proj.lora_A.weight`]: [2, 64] }),
      'invalid_model_file',
      /both matrices/,
    ],
    [
      'a rank of none',
      () => peft({ ...BASIC, r: 1 }, pair('0.self_attn.q_proj', 64, 0, 64)),
      'invalid_model_file',
      /\[0, 64\]/,
    ],
    [
      'a rank too large',
      () => peft({ ...BASIC, r: 300 }, pair('0.self_attn.q_proj', 64, 300, 64)),
      'unsupported_model',
      /rank 300.*1\.\.256/,
    ],
    ['no tensors', () => peft(BASIC, {}), 'invalid_model_file', /low-rank matrices/],
    ['tensors of whole numbers', () => peft(BASIC, Q, 'I64'), 'unsupported_model', /I64/],
    ['text that is no JSON', () => peft('{', Q), 'invalid_model_file', /JSON/],
    [
      'a directory of something else',
      () => mkdtempSync(join(folder, 'empty-')),
      'invalid_model_file',
      /adapter_config.json/,
    ],
    ['nothing', () => join(folder, 'nothing'), 'model_not_found', /nothing/],
  ];
  test.each(cases)('%s', async (_, make, code, message) => {
    await expect(open(make())).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('experts, and another model of the same family names', async () => {
    const mlp = peft(BASIC, pair('0.mlp.up_proj', 160, 2, 64));
    await expect(open(mlp, 'mixtral-f32')).rejects.toMatchObject({ code: 'unsupported_model' });
    await expect(open(join(ADAPTERS, 'llama-patterns'), 'qwen3-q8_0')).rejects.toMatchObject({
      code: 'invalid_model_file',
      hint: expect.stringMatching(/another base/),
    });
  });

  test('a file cut anywhere is refused, never read past its end', async () => {
    const directory = peft(BASIC, Q);
    const file = join(directory, 'adapter_model.safetensors');
    const whole = readFileSync(file);
    for (let length = 0; length < whole.length; length += 97) {
      writeFileSync(file, whole.subarray(0, length));
      await expect(open(directory), `${length} bytes`).rejects.toMatchObject({ code: 'invalid_model_file' });
    }
  });
});
