import { describe, expect, test } from 'vitest';
import { AutoglmError } from '../../../../lib/errors';
import { parseGguf } from '../../../../lib/model/gguf/parse';
import { MemorySource, rejectionOf } from '../memory-source';
import {
  arrayKey,
  type FileOptions,
  ggufFile,
  integerKey,
  key,
  SOUND,
  stringKey,
  Type,
  tensor,
  text,
  u8,
  u64,
} from './gguf-builder';

const architecture = stringKey('general.architecture', 'llama');
const one = (options: Partial<Parameters<typeof tensor>[0]>): FileOptions => ({
  tensors: [tensor({ name: 'w', dims: [8], type: 0, offset: 0, ...options })],
  dataSize: 32,
});
const pair = (secondOffset: number | bigint, dataSize = 64): FileOptions => ({
  tensors: [
    tensor({ name: 'first', dims: [8], type: 0, offset: 0 }),
    tensor({ name: 'second', dims: [8], type: 0, offset: secondOffset }),
  ],
  dataSize,
});

// One file per rule: what it holds, and words of the message that name the place and the rule.
const BROKEN: readonly (readonly [string, Uint8Array, string, RegExp])[] = [
  ['an empty file', Buffer.alloc(0), 'invalid_model_file', /GGUF v2\/v3 file.*found an empty file/],
  ['one byte', Buffer.from('G'), 'invalid_model_file', /found 1 bytes/],
  ['another magic', ggufFile({ magic: 'ABCD' }), 'invalid_model_file', /GGUF v2\/v3.*"ABCD"/],
  ['a ZIP archive', ggufFile({ magic: 'PK\x03\x04' }), 'invalid_model_file', /ZIP or PyTorch/],
  ['an old GGML file', ggufFile({ magic: 'tjgg' }), 'invalid_model_file', /old GGML/],
  ['a web page', Buffer.from('<!DOCTYPE html>'), 'invalid_model_file', /web page/],
  ['a Git LFS pointer', Buffer.from('version https://git-lfs'), 'invalid_model_file', /Git LFS pointer/],
  [
    'version 1',
    ggufFile({ version: 1 }),
    'unsupported_model',
    /GGUF version 1 is not supported.*GGUF v2, v3/,
  ],
  ['version 0', ggufFile({ version: 0 }), 'unsupported_model', /GGUF version 0/],
  ['version 4', ggufFile({ version: 4 }), 'unsupported_model', /GGUF version 4/],
  ['big-endian order', ggufFile({ version: 0x03000000 }), 'unsupported_model', /big-endian GGUF/],
  [
    '65,537 tensors',
    ggufFile({ numTensors: 65_537 }),
    'invalid_model_file',
    /tensor count.*65536, found 65537/,
  ],
  [
    '2^64 - 1 tensors',
    ggufFile({ numTensors: 2n ** 64n - 1n }),
    'invalid_model_file',
    /found 18446744073709551615/,
  ],
  [
    '2^63 keys',
    ggufFile({ numKeys: 2n ** 63n }),
    'invalid_model_file',
    /key count.*found 9223372036854775808/,
  ],
  ['65,537 keys', ggufFile({ numKeys: 65_537 }), 'invalid_model_file', /key count.*65536, found 65537/],
  [
    'fewer keys than stated',
    ggufFile({ numKeys: 2, keys: [architecture] }),
    'invalid_model_file',
    /key 1.*more bytes/,
  ],
  [
    'an empty key',
    ggufFile({ keys: [stringKey('', 'x')] }),
    'invalid_model_file',
    /name of key 0.*empty string/,
  ],
  [
    'a key that is not ASCII',
    ggufFile({ keys: [stringKey('schlüssel', 'x')] }),
    'invalid_model_file',
    /ASCII/,
  ],
  [
    'a key of no text',
    ggufFile({ keys: [key(Buffer.from([0xff]), 0, u8(1))] }),
    'invalid_model_file',
    /not text/,
  ],
  [
    'a key of 65,536 bytes',
    ggufFile({ keys: [stringKey('k'.repeat(65_536), 'x')] }),
    'invalid_model_file',
    /65535/,
  ],
  [
    'a key twice',
    ggufFile({ keys: [architecture, architecture] }),
    'invalid_model_file',
    /general.architecture.*second time/,
  ],
  [
    'value type 13',
    ggufFile({ keys: [key('k', 13, u8(1))] }),
    'invalid_model_file',
    /type of key "k".*0\.\.12, found 13/,
  ],
  [
    'element type 99',
    ggufFile({ keys: [arrayKey('k', 99, 1, u8(1))] }),
    'invalid_model_file',
    /element type of key "k".*99/,
  ],
  [
    'nested arrays',
    ggufFile({ keys: [arrayKey('k', Type.array, 1, u8(1))] }),
    'invalid_model_file',
    /nested arrays/,
  ],
  [
    'a bool byte of 7',
    ggufFile({ keys: [key('k', Type.bool, u8(7))] }),
    'invalid_model_file',
    /0 or 1, found 7/,
  ],
  [
    'a bool array with 2',
    ggufFile({ keys: [arrayKey('k', Type.bool, 2, Buffer.from([1, 2]))] }),
    'invalid_model_file',
    /found 2/,
  ],
  [
    'a string past the end',
    ggufFile({ keys: [key('k', Type.string, u64(1000))] }),
    'invalid_model_file',
    /key "k".*1000 more bytes/,
  ],
  [
    'a string of 2^64 - 1',
    ggufFile({ keys: [key('k', Type.string, u64(2n ** 64n - 1n))] }),
    'invalid_model_file',
    /length of key "k"/,
  ],
  [
    'an array of 2^24 + 1',
    ggufFile({ keys: [arrayKey('k', 0, 2 ** 24 + 1, u8(1))] }),
    'invalid_model_file',
    /array length of key "k"/,
  ],
  [
    'an array past the end',
    ggufFile({ keys: [arrayKey('k', Type.u64, 100, u8(1))] }),
    'invalid_model_file',
    /800 more bytes/,
  ],
  [
    'strings past the end',
    ggufFile({ keys: [arrayKey('k', Type.string, 9, text('a'))] }),
    'invalid_model_file',
    /key "k"/,
  ],
  [
    'a string in an array past the end',
    ggufFile({ keys: [arrayKey('k', Type.string, 1, Buffer.concat([u64(9), u64(0)]))] }),
    'invalid_model_file',
    /string 0.*9 more bytes, found 8/,
  ],
  [
    'a string in an array of 2^62 bytes',
    ggufFile({ keys: [arrayKey('k', Type.string, 1, u64(2n ** 62n))] }),
    'invalid_model_file',
    /string 0.*67108864 bytes/,
  ],
  [
    'a string that is not UTF-8',
    ggufFile({ keys: [stringKey('k', Buffer.from([0xc3, 0x28]))] }),
    'invalid_model_file',
    /UTF-8/,
  ],
  [
    'a string array that is not UTF-8',
    ggufFile({
      keys: [arrayKey('k', Type.string, 2, Buffer.concat([text('a'), text(Buffer.from([0x80]))]))],
    }),
    'invalid_model_file',
    /string 1.*UTF-8/,
  ],
  [
    'a character split over two strings',
    ggufFile({
      keys: [
        arrayKey('k', Type.string, 2, Buffer.concat([text(Buffer.from([0xc3])), text(Buffer.from([0xbc]))])),
      ],
    }),
    'invalid_model_file',
    /string 0.*UTF-8/,
  ],
  [
    'alignment 0',
    ggufFile({ keys: [integerKey('general.alignment', 0)] }),
    'invalid_model_file',
    /general.alignment/,
  ],
  [
    'alignment 48',
    ggufFile({ keys: [integerKey('general.alignment', 48)] }),
    'invalid_model_file',
    /power of two, found 48/,
  ],
  [
    'alignment 2^21',
    ggufFile({ keys: [integerKey('general.alignment', 2 ** 21)] }),
    'invalid_model_file',
    /1048576/,
  ],
  [
    'an alignment of text',
    ggufFile({ keys: [stringKey('general.alignment', '32')] }),
    'invalid_model_file',
    /whole number.*string/,
  ],
  ['a tensor without a name', ggufFile(one({ name: '' })), 'invalid_model_file', /name of tensor 0.*empty/],
  [
    'a tensor name of 64 bytes',
    ggufFile(one({ name: 'n'.repeat(64) })),
    'invalid_model_file',
    /at most 63, found 64/,
  ],
  ['a tensor name of no text', ggufFile(one({ name: Buffer.from([0xff]) })), 'invalid_model_file', /UTF-8/],
  [
    'a tensor twice',
    ggufFile({
      tensors: [0, 32].map((offset) => tensor({ name: 'w', dims: [8], type: 0, offset })),
      dataSize: 64,
    }),
    'invalid_model_file',
    /"w" a second time/,
  ],
  ['no dims', ggufFile(one({ dims: [] })), 'invalid_model_file', /1\.\.4 dims, found 0/],
  ['five dims', ggufFile(one({ dims: [8, 1, 1, 1, 1] })), 'invalid_model_file', /1\.\.4 dims, found 5/],
  ['a dim of 0', ggufFile(one({ dims: [0] })), 'invalid_model_file', /dim 0 > 0, found 0/],
  ['a dim of 2^63', ggufFile(one({ dims: [2n ** 63n] })), 'invalid_model_file', /dim 0.*9223372036854775808/],
  ['a dim of 2^53', ggufFile(one({ dims: [2n ** 53n] })), 'invalid_model_file', /9007199254740991/],
  [
    'dims whose product wraps 2^64',
    ggufFile(one({ dims: [2n ** 32n, 2n ** 32n, 4] })),
    'invalid_model_file',
    /295147905179352825856 bytes/,
  ],
  [
    'a row of no whole blocks',
    ggufFile(one({ dims: [40], type: 2 })),
    'invalid_model_file',
    /multiple of 32, the block of Q4_0, found 40/,
  ],
  [
    'tensor type 200',
    ggufFile(one({ type: 200 })),
    'unsupported_model',
    /tensor "w" of type number 200.*Q4_0/,
  ],
  ['tensor type 4, withdrawn', ggufFile(one({ type: 4 })), 'unsupported_model', /type number 4/],
  ['a first offset above 0', ggufFile(one({ offset: 32 })), 'invalid_model_file', /data offset 0.*found 32/],
  ['a gap', ggufFile(pair(64, 96)), 'invalid_model_file', /"second".*data offset 32.*found 64/],
  ['an overlap', ggufFile(pair(0)), 'invalid_model_file', /data offset 32.*found 0/],
  ['an unaligned offset', ggufFile(pair(33)), 'invalid_model_file', /no multiple of the alignment 32/],
  [
    'an offset of 2^64 - 32',
    ggufFile(pair(2n ** 64n - 32n)),
    'invalid_model_file',
    /found 18446744073709551584/,
  ],
  [
    'data cut short',
    ggufFile({ ...one({}), dataSize: 31 }),
    'invalid_model_file',
    /file size: expected 96 bytes, found 95/,
  ],
  ['no data at all', ggufFile({ ...one({}), dataSize: 0 }), 'invalid_model_file', /file size/],
  ['bytes behind the data', ggufFile({ ...one({}), dataSize: 33 }), 'invalid_model_file', /file size/],
  [
    'bytes behind a file without tensors',
    Buffer.concat([ggufFile({}), Buffer.alloc(40)]),
    'invalid_model_file',
    /file size/,
  ],
];

describe('a broken file is a typed error that names place and rule', () => {
  test.each(BROKEN)('%s', async (_name, bytes, code, message) => {
    const source = new MemorySource(bytes);
    const error = await rejectionOf(parseGguf(source));
    expect(error).toBeInstanceOf(AutoglmError);
    expect(error).toMatchObject({ code });
    expect((error as AutoglmError).message).toMatch(message);
    expect(source.largestRead).toBeLessThanOrEqual(bytes.length);
  });

  test('a header cut at any byte is refused', async () => {
    const file = ggufFile(SOUND);
    for (let length = 0; length < file.length - 16; length += 1) {
      const error = await rejectionOf(parseGguf(new MemorySource(file.subarray(0, length))));
      expect(error, `cut at byte ${length}`).toMatchObject({ code: 'invalid_model_file' });
    }
  });
});
