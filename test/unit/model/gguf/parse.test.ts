import { describe, expect, test } from 'vitest';
import { AutoglmError } from '../../../../lib/errors';
import { GGUF_LIMITS } from '../../../../lib/model/gguf/limits';
import { type GgufHeader, parseGguf } from '../../../../lib/model/gguf/parse';
import { MemorySource, rejectionOf, seededRandom } from '../memory-source';
import {
  arrayKey,
  type FileOptions,
  f32,
  ggufFile,
  integerKey,
  key,
  SOUND,
  stringKey,
  Type,
  tensor,
  text,
  u8,
  u32,
  u64,
} from './gguf-builder';

const parse = (bytes: Uint8Array, limits = GGUF_LIMITS): Promise<GgufHeader> =>
  parseGguf(new MemorySource(bytes), limits);

describe('a sound file', () => {
  test('gives its keys and the places of its tensors', async () => {
    const file = ggufFile(SOUND);
    const { version, metadata, tensors, dataOffset } = await parse(file);
    expect(version).toBe(3);
    expect(dataOffset).toBe(file.length - 64);
    expect(metadata.string('general.architecture')).toBe('llama');
    expect(metadata.integer('llama.block_count', 1, 10)).toBe(1);
    expect([...tensors.values()]).toEqual([
      { name: 'first', typeName: 'F32', format: 'f32', shape: [2, 4], offset: dataOffset, byteLength: 32 },
      { name: 'second', typeName: 'F32', format: 'f32', shape: [4], offset: dataOffset + 32, byteLength: 16 },
    ]);
  });

  test('may be version 2, and may end without the last padding', async () => {
    const file = ggufFile({ ...SOUND, version: 2 });
    expect((await parse(file)).version).toBe(2);
    expect((await parse(file.subarray(0, file.length - 16))).tensors.size).toBe(2);
  });

  test('may hold keys alone, with and without padding behind them', async () => {
    const file = ggufFile({ keys: [integerKey('k', 1)] });
    const padded = Buffer.concat([file, Buffer.alloc(32 - (file.length % 32))]);
    expect((await parse(file)).tensors.size).toBe(0);
    expect((await parse(padded)).tensors.size).toBe(0);
  });

  test('may state another alignment', async () => {
    const file = ggufFile({
      ...SOUND,
      keys: [integerKey('general.alignment', 8)],
      tensors: [
        tensor({ name: 'first', dims: [3], type: 0, offset: 0 }),
        tensor({ name: 'second', dims: [1], type: 0, offset: 16 }),
      ],
      alignment: 8,
      dataSize: 20,
    });
    expect((await parse(file)).tensors.get('second')?.byteLength).toBe(4);
  });

  test('may hold values of every type', async () => {
    const wide = Buffer.alloc(8);
    wide.writeDoubleLE(0.1);
    const { metadata } = await parse(
      ggufFile({
        keys: [
          key('u8', Type.u8, u8(255)),
          key('i8', Type.i8, u8(255)),
          key('u16', Type.u16, Buffer.from([1, 2])),
          key('i16', Type.i16, Buffer.from([0xff, 0xff])),
          key('i32', Type.i32, Buffer.from([0xfe, 0xff, 0xff, 0xff])),
          key('f32', Type.f32, f32(0.5)),
          key('f64', Type.f64, wide),
          key('u64', Type.u64, u64(2n ** 53n - 1n)),
          key('i64', Type.i64, u64(2n ** 64n - 3n)),
          key('yes', Type.bool, u8(1)),
          key('no', Type.bool, u8(0)),
          arrayKey('numbers', Type.u16, 2, Buffer.from([1, 0, 2, 0])),
          arrayKey('strings', Type.string, 3, Buffer.concat([text('a'), text(''), text('öß😀')])),
          arrayKey('bools', Type.bool, 2, Buffer.from([1, 0])),
          arrayKey('empty', Type.string, 0, Buffer.alloc(0)),
        ],
      }),
    );
    const range = [-(2 ** 53), 2 ** 53] as const;
    expect(
      ['u8', 'i8', 'u16', 'i16', 'i32', 'u64', 'i64'].map((name) => metadata.integer(name, ...range)),
    ).toEqual([255, -1, 513, -1, -2, 2 ** 53 - 1, -3]);
    expect([metadata.number('f32'), metadata.number('f64')]).toEqual([0.5, 0.1]);
    expect([metadata.boolean('yes'), metadata.boolean('no')]).toEqual([true, false]);
    expect(metadata.numbers('numbers')).toEqual([1, 2]);
    expect(metadata.strings('strings')).toEqual(['a', '', 'öß😀']);
    expect(metadata.strings('empty')).toEqual([]);
    expect(metadata.isList('bools')).toBe(true);
    expect(metadata.string('absent')).toBeNull();
  });

  test('costs one window of memory at a time, however long its strings', async () => {
    const long = 'x'.repeat(300_000);
    const source = new MemorySource(
      ggufFile({
        keys: [arrayKey('texts', Type.string, 3, Buffer.concat([text(long), text('mid'), text(long)]))],
      }),
    );
    const { metadata } = await parseGguf(source);
    expect(metadata.strings('texts')).toEqual([long, 'mid', long]);
    expect(source.largestRead).toBeLessThanOrEqual(300_000);
  });
});

describe('limits', () => {
  const cases: readonly (readonly [string, Partial<typeof GGUF_LIMITS>, (n: number) => FileOptions])[] = [
    ['keys', { maxKeys: 3 }, (n) => ({ keys: Array.from({ length: n }, (_, i) => integerKey(`k${i}`, i)) })],
    [
      'tensors',
      { maxTensors: 3 },
      (n) => ({
        tensors: Array.from({ length: n }, (_, i) =>
          tensor({ name: `t${i}`, dims: [8], type: 0, offset: 32 * i }),
        ),
        dataSize: 32 * n,
      }),
    ],
    ['bytes of a key', { maxKeyBytes: 3 }, (n) => ({ keys: [integerKey('k'.repeat(n), 1)] })],
    ['bytes of a string', { maxStringBytes: 3 }, (n) => ({ keys: [stringKey('k', 'x'.repeat(n))] })],
    [
      'bytes of a string in an array',
      { maxStringBytes: 3 },
      (n) => ({ keys: [arrayKey('k', Type.string, 1, text('x'.repeat(n)))] }),
    ],
    [
      'elements of an array',
      { maxArrayLength: 3 },
      (n) => ({ keys: [arrayKey('k', Type.u8, n, Buffer.alloc(n))] }),
    ],
  ];

  test.each(cases)('%s: below and at the limit pass, above is refused', async (_name, limits, build) => {
    for (const count of [2, 3]) await parse(ggufFile(build(count)), { ...GGUF_LIMITS, ...limits });
    const error = await rejectionOf(parse(ggufFile(build(4)), { ...GGUF_LIMITS, ...limits }));
    expect(error).toMatchObject({ code: 'invalid_model_file' });
    expect((error as AutoglmError).message).toMatch(/at most 3/);
  });

  test('a header may not exceed its budget of bytes', async () => {
    const file = ggufFile({ keys: [stringKey('k', 'x'.repeat(100))] });
    await parse(file, { ...GGUF_LIMITS, maxHeaderBytes: file.length });
    const error = await rejectionOf(parse(file, { ...GGUF_LIMITS, maxHeaderBytes: file.length - 1 }));
    expect((error as AutoglmError).message).toMatch(/what a header may take/);
  });
});

// Goal: no bytes, however damaged, give anything but a header or a typed error.
// Method: 3,000 seeded mutations of a sound file: bytes replaced, cut out, doubled; words set to border values.
test('random damage gives typed errors only', async () => {
  const sound = ggufFile({
    ...SOUND,
    keys: [
      ...(SOUND.keys ?? []),
      arrayKey('names', Type.string, 3, Buffer.concat([text('one'), text('two'), text('three')])),
      arrayKey('numbers', Type.f32, 2, Buffer.concat([f32(1), f32(2)])),
      key('flag', Type.bool, u8(1)),
    ],
  });
  const borders = [0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
  const random = seededRandom(3);
  const below = (count: number): number => Math.floor(random() * count);
  let numSound = 0;
  for (let round = 0; round < 3000; round += 1) {
    let bytes = Buffer.from(sound);
    for (let edits = 1 + below(3); edits > 0; edits -= 1) {
      const at = below(bytes.length - 8);
      const kind = below(4);
      if (kind === 0) bytes[at] = below(256);
      else if (kind === 1) bytes.writeBigUInt64LE(borders[below(borders.length)] ?? 0n, at);
      else if (kind === 2) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + below(7))]);
      else bytes = Buffer.concat([bytes.subarray(0, at), u32(below(16)), bytes.subarray(at)]);
    }
    try {
      await parse(bytes);
      numSound += 1;
    } catch (error) {
      expect(error, `round ${round}`).toBeInstanceOf(AutoglmError);
      expect(['invalid_model_file', 'unsupported_model']).toContain((error as AutoglmError).code);
    }
  }
  expect(numSound).toBeGreaterThan(0);
  expect(numSound).toBeLessThan(1500);
});
