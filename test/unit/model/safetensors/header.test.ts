import { describe, expect, test } from 'vitest';
import { AutoglmError } from '../../../../lib/errors';
import { parseSafetensors, SAFETENSORS_LIMITS } from '../../../../lib/model/safetensors/header';
import { MemorySource, rejectionOf, seededRandom } from '../memory-source';

/** A file with this header text and `dataSize` bytes of data. */
function fileOf(header: string | Uint8Array, dataSize = 0, statedLength?: bigint): Buffer {
  const bytes = Buffer.from(header as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(statedLength ?? BigInt(bytes.length));
  return Buffer.concat([length, bytes, Buffer.alloc(dataSize)]);
}

const entry = (dtype: string, shape: readonly number[], begin: number, end: number): object => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});
const fileWith = (tensors: Readonly<Record<string, object>>, dataSize: number): Buffer =>
  fileOf(JSON.stringify(tensors), dataSize);
const parse = (bytes: Uint8Array, limits = SAFETENSORS_LIMITS) =>
  parseSafetensors(new MemorySource(bytes), limits);

const SOUND = fileOf(
  JSON.stringify({
    __metadata__: { format: 'pt' },
    second: entry('BF16', [3], 16, 22),
    first: entry('F32', [2, 2], 0, 16),
    empty: entry('F16', [0, 5], 22, 22),
    scalar: entry('I64', [], 22, 30),
  }),
  30,
);

describe('a sound file', () => {
  test('gives the places of its tensors, in the order of the header', async () => {
    const { tensors, metadata, dataOffset } = await parse(SOUND);
    expect([...tensors.keys()]).toEqual(['second', 'first', 'empty', 'scalar']);
    expect(tensors.get('second')).toEqual({
      name: 'second',
      typeName: 'BF16',
      format: 'bf16',
      shape: [3],
      offset: dataOffset + 16,
      byteLength: 6,
    });
    expect(tensors.get('scalar')).toMatchObject({ typeName: 'I64', format: null, shape: [], byteLength: 8 });
    expect(metadata.get('format')).toBe('pt');
  });

  test('may pad its header with spaces, hold no tensor, and spell names with escapes', async () => {
    expect((await parse(fileOf('{}   '))).tensors.size).toBe(0);
    const escaped = '{ "a\\u00e4\\"b" : {"shape":[2] ,"data_offsets":[0,2],\n"dtype":"U8"} }';
    expect([...(await parse(fileOf(escaped, 2))).tensors.keys()]).toEqual(['aä"b']);
  });

  test('may hold names of any object property', async () => {
    const names = ['__proto__', 'constructor', 'toString'];
    const members = names.map((name, i) => `"${name}":${JSON.stringify(entry('U8', [1], i, i + 1))}`);
    const { tensors } = await parse(fileOf(`{${members.join(',')}}`, 3));
    expect([...tensors.keys()]).toEqual(names);
  });

  test('may hold elements smaller than a byte when they fill whole bytes', async () => {
    expect((await parse(fileWith({ w: entry('F4', [4], 0, 2) }, 2))).tensors.get('w')?.format).toBeNull();
  });
});

const w = entry('F32', [2], 0, 8);
const BROKEN: readonly (readonly [string, Uint8Array, RegExp])[] = [
  ['an empty file', Buffer.alloc(0), /at least 10 bytes, found 0 bytes/],
  ['nine bytes', Buffer.alloc(9), /at least 10 bytes, found 9/],
  ['a header length of 0', fileOf('{}', 0, 0n), /header length.*2\.\.2 bytes, found 0/],
  ['a header longer than the file', fileOf('{}', 0, 3n), /2\.\.2 bytes, found 3/],
  ['a header length of 2^64 - 1', fileOf('{}', 0, 2n ** 64n - 1n), /found 18446744073709551615/],
  ['a header length of 2^53', fileOf('{}', 0, 2n ** 53n), /found 9007199254740992/],
  ['a header that is not UTF-8', fileOf(Buffer.from([0x7b, 0xff, 0x7d])), /UTF-8/],
  ['a space before the brace', fileOf(' {}'), /"\{" as its first byte/],
  ['a list', fileOf('[]'), /"\{" as its first byte/],
  ['text behind the brace', fileOf('{}x'), /its end, found "x"/],
  ['an open header', fileOf('{"w":'), /tensor "w".*found its end/],
  ['an open string', fileOf('{"w'), /ends with a quote/],
  ['a string that ends in a backslash', fileOf('{"w\\'), /ends with a quote/],
  ['a bad escape', fileOf('{"\\x":1}'), /escapes as in JSON/],
  ['a line break in a string', fileOf('{"a\nb":1}'), /ends with a quote/],
  ['a lone surrogate', fileOf('{"\\ud800":1}'), /lone surrogates/],
  [
    'a comma too many',
    fileOf('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},}', 8),
    /a string, found "\}"/,
  ],
  [
    'a name twice',
    fileOf(`{"w":${JSON.stringify(w)},"w":${JSON.stringify(w)}}`, 8),
    /each name once, not "w" again/,
  ],
  ['metadata twice', fileOf('{"__metadata__":{},"__metadata__":{}}'), /each name once/],
  ['metadata that is no text', fileOf('{"__metadata__":{"a":1}}'), /__metadata__.*a string/],
  ['an entry that is a number', fileOf('{"w":1}'), /tensor "w".*"\{", found "1\}"/],
  ['an unknown field', fileOf('{"w":{"dtype":"F32","strides":[1]}}'), /not "strides"/],
  ['a field twice', fileOf('{"w":{"dtype":"F32","dtype":"F32"}}'), /once each, not "dtype"/],
  ['no dtype', fileOf('{"w":{"shape":[2],"data_offsets":[0,8]}}', 8), /dtype, shape and two data_offsets/],
  ['no shape', fileOf('{"w":{"dtype":"F32","data_offsets":[0,8]}}', 8), /dtype, shape and two data_offsets/],
  ['one offset', fileOf('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0]}}', 8), /two data_offsets/],
  [
    'three offsets',
    fileOf('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}', 8),
    /at most 2 numbers/,
  ],
  ['a negative dim', fileOf('{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', 8), /whole number/],
  [
    'a dim with a fraction',
    fileOf('{"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', 8),
    /whole number/,
  ],
  [
    'a dim with an exponent',
    fileOf('{"w":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}', 8),
    /whole number/,
  ],
  [
    'a dim with a leading zero',
    fileOf('{"w":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}', 8),
    /found "02/,
  ],
  [
    'a dim of 2^53',
    fileOf('{"w":{"dtype":"F32","shape":[9007199254740992],"data_offsets":[0,8]}}', 8),
    /2\^53/,
  ],
  [
    'a dim of 2^64',
    fileOf('{"w":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}}', 8),
    /2\^53/,
  ],
  ['65 dims', fileWith({ w: entry('U8', new Array(65).fill(1), 0, 1) }, 1), /at most 64 numbers/],
  [
    'dims whose product wraps 2^64',
    fileWith({ w: entry('U8', [2 ** 40, 2 ** 40], 0, 8) }, 8),
    /1208925819614629174706176 bytes/,
  ],
  [
    'a shape of more bytes',
    fileWith({ w: entry('F32', [3], 0, 8) }, 8),
    /expected 12 bytes for F32 \[3\], found.*8 bytes/,
  ],
  ['a shape of fewer bytes', fileWith({ w: entry('F16', [3], 0, 8) }, 8), /expected 6 bytes for F16/],
  ['half a byte', fileWith({ w: entry('F4', [3], 0, 2) }, 2), /12 \/ 8 bytes/],
  ['offsets that run backwards', fileWith({ w: entry('F32', [0], 8, 0) }, 8), /start at 0.*\[8, 0\]/],
  ['a first offset above 0', fileWith({ w: entry('U8', [4], 4, 8) }, 8), /start at 0/],
  ['a gap', fileWith({ a: entry('U8', [4], 0, 4), b: entry('U8', [4], 8, 12) }, 12), /"b".*start at 4/],
  ['an overlap', fileWith({ a: entry('U8', [4], 0, 4), b: entry('U8', [4], 2, 6) }, 6), /"b".*start at 4/],
  [
    'two tensors in one place',
    fileWith({ a: entry('U8', [4], 0, 4), b: entry('U8', [4], 0, 4) }, 4),
    /"b".*start at 4/,
  ],
  ['data cut short', fileWith({ w }, 7), /file size.*found/],
  ['bytes behind the data', fileWith({ w }, 9), /file size/],
  ['data without tensors', fileOf('{}', 1), /expected 10 bytes, found 11 bytes/],
];

describe('a broken file is a typed error that names place and rule', () => {
  test.each(BROKEN)('%s', async (_name, bytes, message) => {
    const source = new MemorySource(bytes);
    const error = await rejectionOf(parseSafetensors(source));
    expect(error).toMatchObject({ code: 'invalid_model_file' });
    expect((error as AutoglmError).message).toMatch(message);
    expect(source.largestRead).toBeLessThanOrEqual(bytes.length);
  });

  test('an unknown dtype is named with the supported ones', async () => {
    const error = await rejectionOf(parse(fileWith({ w: entry('F8_E9', [8], 0, 8) }, 8)));
    expect(error).toMatchObject({ code: 'unsupported_model' });
    expect((error as AutoglmError).message).toMatch(/"w" of dtype "F8_E9".*F32, F16, BF16/);
  });

  test('a file cut at any byte is refused', async () => {
    for (let length = 0; length < SOUND.length; length += 1) {
      const error = await rejectionOf(parse(SOUND.subarray(0, length)));
      expect(error, `cut at byte ${length}`).toMatchObject({ code: 'invalid_model_file' });
    }
  });

  // A hundred thousand open brackets would take JSON.parse as deep; this scanner stops at the first.
  test('nesting is refused where it starts, however deep', async () => {
    const bomb = `{"w":${'['.repeat(100_000)}`;
    expect(((await rejectionOf(parse(fileOf(bomb)))) as AutoglmError).message).toMatch(/tensor "w"/);
    const long = `{"${'x'.repeat(4 << 20)}`;
    expect(await rejectionOf(parse(fileOf(long)))).toMatchObject({ code: 'invalid_model_file' });
    expect((await parse(fileOf(`{}${' '.repeat(4 << 20)}`))).tensors.size).toBe(0);
  });
});

describe('limits', () => {
  const withTensors = (count: number): Buffer =>
    fileWith(
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, entry('U8', [1], i, i + 1)])),
      count,
    );

  test('tensors: below and at the limit pass, above is refused', async () => {
    for (const count of [2, 3]) await parse(withTensors(count), { ...SAFETENSORS_LIMITS, maxTensors: 3 });
    const error = await rejectionOf(parse(withTensors(4), { ...SAFETENSORS_LIMITS, maxTensors: 3 }));
    expect((error as AutoglmError).message).toMatch(/at most 3 tensors/);
  });

  test('header bytes: below and at the limit pass, above is refused', async () => {
    for (const length of [9, 10]) {
      await parse(fileOf('{}'.padEnd(length)), { ...SAFETENSORS_LIMITS, maxHeaderBytes: 10 });
    }
    const error = await rejectionOf(
      parse(fileOf('{}'.padEnd(11)), { ...SAFETENSORS_LIMITS, maxHeaderBytes: 10 }),
    );
    expect((error as AutoglmError).message).toMatch(/2\.\.10 bytes, found 11/);
  });
});

// Goal and method as for GGUF: 3,000 seeded mutations, a header or a typed error each time.
test('random damage gives typed errors only', async () => {
  const random = seededRandom(5);
  const below = (count: number): number => Math.floor(random() * count);
  const pieces = ['"', '{', '}', '[', ']', ',', ':', '\\', '-1', '9007199254740993', '"w":', '\u0000', '1e9'];
  const headerLength = SOUND.length - 30 - 8;
  let numSound = 0;
  for (let round = 0; round < 3000; round += 1) {
    let header = SOUND.subarray(8, 8 + headerLength).toString();
    for (let edits = 1 + below(3); edits > 0; edits -= 1) {
      const at = below(header.length);
      const piece = pieces[below(pieces.length)] ?? '';
      header = header.slice(0, at) + piece + header.slice(at + below(4));
    }
    try {
      await parse(fileOf(header, 30));
      numSound += 1;
    } catch (error) {
      expect(error, `round ${round}: ${header}`).toBeInstanceOf(AutoglmError);
    }
  }
  expect(numSound).toBeLessThan(300);
});
