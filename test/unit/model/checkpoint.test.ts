import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../../lib/model/checkpoint';
import type { GgufTokenizerSource, HuggingFaceTokenizerSource } from '../../../lib/model/checkpoint-types';
import { decodeStrings } from '../../../lib/model/string-table';
import { arrayKey, ggufFile, integerKey, stringKey, Type, tensor, text } from './gguf/gguf-builder';
import { rejectionOf } from './memory-source';

const models = join(__dirname, '..', '..', 'fixtures', 'models');
const SHARDED = 'qwen3-sharded';
const INDEX = 'model.safetensors.index.json';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'checkpoint-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** A copy of a fixture that a test may damage. */
function copyOf(name: string): string {
  const copy = join(directory, name);
  cpSync(join(models, name), copy, { recursive: true });
  return copy;
}

function edit(path: string, change: (json: Record<string, unknown>) => void): void {
  const json = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  change(json);
  writeFileSync(path, JSON.stringify(json));
}

describe('a GGUF file', () => {
  test('gives config, tensors, vocabulary, template and stop tokens', async () => {
    const path = join(models, 'qwen2-f16.gguf');
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint.format).toBe('gguf');
    expect(checkpoint.files).toMatchObject([{ path, size: readFileSync(path).length }]);
    expect(checkpoint.config).toMatchObject({ kind: 'gguf', architecture: 'qwen2' });
    expect(checkpoint.tensors.get('blk.1.attn_k.weight')).toMatchObject({
      format: 'f16',
      shape: [32, 64],
      file: 0,
    });
    expect(checkpoint.eosTokenIds).toEqual([340, 344]);
    expect(checkpoint.chatTemplates.default).toContain('add_generation_prompt');
    const tokenizer = checkpoint.tokenizer as GgufTokenizerSource;
    expect(tokenizer).toMatchObject({
      model: 'gpt2',
      pre: 'gpt-2',
      bosTokenId: null,
      eosTokenId: 340,
      addBosToken: false,
    });
    const tokens = decodeStrings(tokenizer.tokens);
    expect(tokens).toHaveLength(384);
    expect(tokens.slice(339, 346)).toEqual([
      expect.any(String),
      '<|endoftext|>',
      '<|system|>',
      '<|user|>',
      '<|assistant|>',
      '<|end|>',
      '[PAD345]',
    ]);
    expect(tokenizer.tokenTypes?.slice(339, 346)).toEqual(Int32Array.of(1, 3, 3, 3, 3, 3, 5));
    const fromJson = JSON.parse(readFileSync(join(models, 'llama-f32', 'tokenizer.json'), 'utf8'));
    expect(tokenizer.merges && decodeStrings(tokenizer.merges)).toEqual(
      fromJson.model.merges.map((merge: string[]) => merge.join(' ')),
    );
  });

  test('may lie alone in a directory', async () => {
    cpSync(join(models, 'qwen2-f16.gguf'), join(directory, 'model.gguf'));
    expect((await openCheckpoint(directory)).path).toBe(join(directory, 'model.gguf'));
  });

  const vocabulary = [
    stringKey('general.architecture', 'llama'),
    stringKey('tokenizer.ggml.model', 'gpt2'),
    arrayKey('tokenizer.ggml.tokens', Type.string, 2, Buffer.concat([text('a'), text('b')])),
  ];
  const opened = (keys: readonly Buffer[]) => {
    const path = join(directory, 'model.gguf');
    writeFileSync(path, ggufFile({ keys }));
    return openCheckpoint(path);
  };

  test.each([
    ['no architecture', [], /general.architecture/],
    [
      'a stop token outside the vocabulary',
      [...vocabulary, integerKey('tokenizer.ggml.eos_token_id', 2)],
      /eos_token_id.*0\.\.1.*found u32 2/,
    ],
    [
      'types for another number of tokens',
      [...vocabulary, arrayKey('tokenizer.ggml.token_type', Type.i32, 1, Buffer.alloc(4))],
      /token_type.*each of the 2 tokens, found 1 values/,
    ],
    [
      'scores of the wrong type',
      [...vocabulary, arrayKey('tokenizer.ggml.scores', Type.u8, 2, Buffer.alloc(2))],
      /scores.*array of f32, found an array of 2 u8/,
    ],
    [
      'tokens that are numbers',
      [vocabulary[0], vocabulary[1], integerKey('tokenizer.ggml.tokens', 1)],
      /array of strings/,
    ],
    [
      'a template that is a number',
      [...vocabulary, integerKey('tokenizer.chat_template', 1)],
      /chat_template.*a string/,
    ],
  ])('with %s is refused', async (_name, keys, message) => {
    const error = await rejectionOf(opened(keys as Buffer[]));
    expect(error).toMatchObject({ code: 'invalid_model_file', message: expect.stringMatching(message) });
  });

  test('that holds an adapter is refused by name', async () => {
    const error = await rejectionOf(opened([...vocabulary, stringKey('general.type', 'adapter')]));
    expect(error).toMatchObject({
      code: 'unsupported_model',
      message: expect.stringContaining('of type "adapter"'),
    });
  });

  test('without a vocabulary opens without a tokenizer', async () => {
    const checkpoint = await opened([stringKey('general.architecture', 'llama')]);
    expect(checkpoint.tokenizer).toBeNull();
  });

  test('keeps named templates and rope divisors', async () => {
    const path = join(directory, 'model.gguf');
    const keys = [
      ...vocabulary,
      stringKey('tokenizer.chat_template', 'D'),
      stringKey('tokenizer.chat_template.tool_use', 'T'),
    ];
    const tensors = [tensor({ name: 'rope_freqs.weight', dims: [8], type: 0, offset: 0 })];
    writeFileSync(path, ggufFile({ keys, tensors, dataSize: 32 }));
    const checkpoint = await openCheckpoint(path);
    expect(checkpoint.chatTemplates).toEqual({ default: 'D', named: { tool_use: 'T' } });
    expect(checkpoint.ropeVectors.get('rope_freqs.weight')).toEqual(new Float32Array(8));
  });
});

describe('a safetensors directory', () => {
  test('gives config, tensors of one file, tokenizer text, template and stop tokens', async () => {
    const checkpoint = await openCheckpoint(join(models, 'glm-f16'));
    expect(checkpoint.format).toBe('safetensors');
    expect(checkpoint.tensors.get('model.layers.1.mlp.gate_up_proj.weight')).toMatchObject({
      format: 'f16',
      shape: [320, 64],
    });
    expect(checkpoint.generationConfig).toMatchObject({ temperature: 0.8 });
    expect(checkpoint.eosTokenIds).toEqual([340, 344]);
    expect(checkpoint.chatTemplates.default).toContain('add_generation_prompt');
    const tokenizer = checkpoint.tokenizer as HuggingFaceTokenizerSource;
    expect(JSON.parse(tokenizer.tokenizerJson)).toHaveProperty('model');
    expect(tokenizer.tokenizerConfig).toMatchObject({ eos_token: '<|endoftext|>' });
    expect(tokenizer.specialTokensMap).toBeNull();
  });

  test('may be given by its weights file', async () => {
    const path = join(models, 'glm-f16', 'model.safetensors');
    expect((await openCheckpoint(path)).files).toMatchObject([{ path }]);
  });

  test('may be spread over shards', async () => {
    const checkpoint = await openCheckpoint(join(models, SHARDED));
    const names = [1, 2, 3, 4].map((number) => `model-0000${number}-of-00004.safetensors`);
    expect(checkpoint.files.map(({ path }) => basename(path))).toEqual(names);
    expect(new Set([...checkpoint.tensors.values()].map(({ file }) => file))).toEqual(new Set([0, 1, 2, 3]));
  });

  test('may reach its files through links, as in the cache of Hugging Face', async () => {
    const target = copyOf('glm-f16');
    const link = join(directory, 'snapshot');
    mkdirSync(link);
    for (const name of ['config.json', 'model.safetensors'])
      symlinkSync(join(target, name), join(link, name));
    expect(await openCheckpoint(link)).toMatchObject({ tokenizer: null, chatTemplates: { default: null } });
  });

  test('prefers chat_template.jinja over tokenizer_config.json, and keeps named templates', async () => {
    const copy = copyOf('glm-f16');
    edit(join(copy, 'tokenizer_config.json'), (json) => {
      json.chat_template = [
        { name: 'default', template: 'D' },
        { name: 'tool_use', template: 'T' },
      ];
    });
    expect((await openCheckpoint(copy)).chatTemplates).toEqual({ default: 'D', named: { tool_use: 'T' } });
    writeFileSync(join(copy, 'chat_template.jinja'), 'file');
    expect((await openCheckpoint(copy)).chatTemplates.default).toBe('file');
  });

  test('takes stop tokens from config.json when generation_config.json names none', async () => {
    const copy = copyOf('glm-f16');
    edit(join(copy, 'generation_config.json'), (json) => {
      json.eos_token_id = null;
    });
    edit(join(copy, 'config.json'), (json) => {
      json.eos_token_id = 7;
    });
    expect((await openCheckpoint(copy)).eosTokenIds).toEqual([7]);
  });
});

describe('a damaged safetensors directory is refused', () => {
  const indexWith = (change: (map: Record<string, unknown>) => void) => (copy: string) =>
    edit(join(copy, INDEX), (json) => change(json.weight_map as Record<string, unknown>));
  const first = 'model.embed_tokens.weight';
  const outside = (name: string) =>
    [
      `a shard name ${JSON.stringify(name)}`,
      indexWith((map) => void Object.assign(map, { [first]: name })),
      /plain name/,
    ] as const;

  const cases: readonly (readonly [string, (copy: string) => void, RegExp])[] = [
    ['no config.json', (copy) => rmSync(join(copy, 'config.json')), /config.json beside the weights/],
    [
      'a config that is no JSON',
      (copy) => writeFileSync(join(copy, 'config.json'), '{'),
      /config.json.*JSON/,
    ],
    [
      'a config that is a list',
      (copy) => writeFileSync(join(copy, 'config.json'), '[]'),
      /an object, found a list/,
    ],
    [
      'a config nested 65 deep',
      (copy) => writeFileSync(join(copy, 'config.json'), '['.repeat(65)),
      /at most 64 levels/,
    ],
    [
      'a config that is not UTF-8',
      (copy) => writeFileSync(join(copy, 'config.json'), Buffer.from([0xff])),
      /UTF-8/,
    ],
    [
      'a config of 5 MB',
      (copy) => writeFileSync(join(copy, 'config.json'), ' '.repeat(5 << 20)),
      /4194304 bytes/,
    ],
    [
      'a shard missing',
      (copy) => rmSync(join(copy, 'model-00002-of-00004.safetensors')),
      /1 missing.*00002-of-00004/,
    ],
    [
      'a shard of another download',
      (copy) =>
        cpSync(
          join(copy, 'model-00001-of-00004.safetensors'),
          join(copy, 'model-00005-of-00004.safetensors'),
        ),
      /every shard.*00005-of-00004/,
    ],
    [
      'a tensor in two shards',
      (copy) => {
        cpSync(
          join(copy, 'model-00001-of-00004.safetensors'),
          join(copy, 'model-00002-of-00004.safetensors'),
        );
      },
      /each tensor in one shard/,
    ],
    ['an index without a map', (copy) => writeFileSync(join(copy, INDEX), '{}'), /weight_map.*found none/],
    ['an empty map', (copy) => writeFileSync(join(copy, INDEX), '{"weight_map":{}}'), /at least one tensor/],
    [
      'a shard that is a number',
      indexWith((map) => void Object.assign(map, { [first]: 3 })),
      /file name, found number/,
    ],
    [
      'a tensor in no shard',
      indexWith((map) => void Object.assign(map, { ghost: map[first] })),
      /"ghost".*it in no shard/,
    ],
    [
      'a tensor in another shard than stated',
      indexWith((map) => void Object.assign(map, { [first]: 'model-00004-of-00004.safetensors' })),
      /found it in "model-0000[1-3]/,
    ],
    outside('../model.safetensors'),
    outside('/etc/model.safetensors'),
    outside('sub/model.safetensors'),
    outside('..\\model.safetensors'),
    outside('.hidden.safetensors'),
    outside('model\u0000.safetensors'),
    outside('model.bin'),
    ['no weights', (copy) => rmSync(join(copy, INDEX)), /model.safetensors or model.safetensors.index.json/],
    [
      'stop tokens that are no ids',
      (copy) =>
        edit(
          join(copy, 'generation_config.json'),
          (json) => void Object.assign(json, { eos_token_id: [1.5] }),
        ),
      /eos_token_id.*token ids, found 1.5/,
    ],
    [
      'a template of the wrong shape',
      (copy) =>
        edit(join(copy, 'tokenizer_config.json'), (json) => void Object.assign(json, { chat_template: [1] })),
      /chat_template.*\{name, template\}/,
    ],
  ];

  test.each(cases)('%s', async (_name, damage, message) => {
    const copy = copyOf(SHARDED);
    damage(copy);
    const error = await rejectionOf(openCheckpoint(copy));
    expect(error).toMatchObject({ code: 'invalid_model_file', message: expect.stringMatching(message) });
  });

  test.each(['pytorch_model.bin', 'pytorch_model-00001-of-00002.bin', 'consolidated.00.pth'])(
    'weights that are pickled are refused with the reason and the way out: %s',
    async (name) => {
      const copy = copyOf(SHARDED);
      rmSync(join(copy, INDEX));
      writeFileSync(join(copy, name), 'PK\u0003\u0004');
      for (const path of [copy, join(copy, name)]) {
        expect(await rejectionOf(openCheckpoint(path))).toMatchObject({
          code: 'unsupported_model',
          message: expect.stringMatching(
            /pickled PyTorch file.*run any code.*supported: \.safetensors, \.gguf/,
          ),
          hint: expect.stringContaining('safe_serialization=True'),
        });
      }
    },
  );

  test('a GGUF file opens under any name', async () => {
    const path = join(directory, 'model.bin');
    cpSync(join(models, 'qwen2-f16.gguf'), path);
    expect((await openCheckpoint(path)).format).toBe('gguf');
  });

  test('tensors that the index leaves out are a warning', async () => {
    const copy = copyOf(SHARDED);
    indexWith((map) => {
      delete map['model.norm.weight'];
    })(copy);
    expect((await openCheckpoint(copy)).warnings).toMatchObject([{ code: 'unlisted_tensors' }]);
  });
});

describe('what is no model', () => {
  test('a path with nothing behind it is model_not_found', async () => {
    for (const path of [join(directory, 'none.gguf'), join(directory, 'none', 'a.safetensors')]) {
      expect(await rejectionOf(openCheckpoint(path))).toMatchObject({ code: 'model_not_found' });
    }
  });

  test('an empty directory, a pipe and a directory named like a file are refused without hanging', async () => {
    execFileSync('mkfifo', [join(directory, 'pipe.gguf')]);
    mkdirSync(join(directory, 'folder.safetensors'));
    mkdirSync(join(directory, 'empty'));
    for (const name of ['pipe.gguf', 'folder.safetensors', 'empty']) {
      expect(await rejectionOf(openCheckpoint(join(directory, name))), name).toMatchObject({
        code: 'invalid_model_file',
      });
    }
  });

  test('an aborted load is `aborted`', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    for (const name of ['qwen2-f16.gguf', 'glm-f16']) {
      const error = await rejectionOf(openCheckpoint(join(models, name), { signal }));
      expect(error).toMatchObject({ code: 'aborted', name: 'AbortError' });
    }
  });
});
