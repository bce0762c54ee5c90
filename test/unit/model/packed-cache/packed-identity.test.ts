import { describe, expect, test } from 'vitest';
import { type PackedModel, packedIdentity } from '../../../../lib/model/packed-cache/packed-identity';
import { Abi } from '../../../../lib/native/abi';
import type { NativeTensor } from '../../../../lib/native/addon';
import type { DecoderSpec } from '../../../../lib/native/decoder-spec';

const tensor = (changes: object = {}) =>
  ({ role: 'head', source: { format: 'q4_0', shape: [32, 64], rowOrder: null, ...changes } }) as unknown;
const MODEL = {
  spec: { vocabSize: 32, ropeTables: [Float32Array.of(1, 2)] } as unknown as DecoderSpec,
  files: [{ path: '/a/model.gguf', size: 100, mtimeMs: 5 }],
  tensors: [tensor() as NativeTensor],
  precision: 'fast',
} satisfies PackedModel;

const identityOf = async (changes: Partial<PackedModel> = {}): Promise<string> =>
  (await packedIdentity({ ...MODEL, ...changes })).toString('hex');

describe('the identity of packed weights', () => {
  test('is that of the model, wherever it lies', async () => {
    expect(await identityOf({ files: [{ path: '/b/other.gguf', size: 100, mtimeMs: 5 }] })).toBe(
      await identityOf(),
    );
  });

  test.each<[string, Partial<PackedModel>]>([
    ['precision', { precision: 'exact' }],
    ['size of a file', { files: [{ path: '/a/model.gguf', size: 101, mtimeMs: 5 }] }],
    ['time of a file', { files: [{ path: '/a/model.gguf', size: 100, mtimeMs: 6 }] }],
    ['number of files', { files: [...MODEL.files, ...MODEL.files] }],
    ['setting of the decoder', { spec: { ...MODEL.spec, vocabSize: 33 } }],
    [
      'number in a table of the decoder',
      { spec: { ...MODEL.spec, ropeTables: [Float32Array.of(1, 3)] } as unknown as DecoderSpec },
    ],
    ['stored format of a tensor', { tensors: [tensor({ format: 'q8_0' }) as NativeTensor] }],
    ['order of a tensor’s rows', { tensors: [tensor({ rowOrder: Int32Array.of(1, 0) }) as NativeTensor] }],
    ['number of tensors', { tensors: [...MODEL.tensors, ...MODEL.tensors] }],
  ])('changes with the %s', async (_what, changes) => {
    expect(await identityOf(changes)).not.toBe(await identityOf());
  });

  test('changes with the version of the compute layouts', async () => {
    const before = await identityOf();
    const abi = Abi as { packedLayoutVersion: number };
    abi.packedLayoutVersion += 1;
    try {
      expect(await identityOf()).not.toBe(before);
    } finally {
      abi.packedLayoutVersion -= 1;
    }
  });
});
