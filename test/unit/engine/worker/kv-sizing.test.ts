import { describe, expect, test } from 'vitest';
import { type KvSizingInput, sizeKvCache } from '../../../../lib/engine/worker/kv-sizing';

const PAGE_BYTES = 16 * 100;
const input = (overrides: Partial<KvSizingInput>): KvSizingInput => ({
  modelContextLength: 2048,
  contextLength: null,
  kvMemory: null,
  kvBytesPerToken: 100,
  freeBytes: 2 ** 30,
  ...overrides,
});

describe('the size of the KV cache', () => {
  test('is four sequences of the context by default', () => {
    expect(sizeKvCache(input({}))).toEqual({ contextLength: 2048, numPages: 4 * 128 });
    expect(sizeKvCache(input({ contextLength: 100 }))).toEqual({ contextLength: 100, numPages: 4 * 7 });
  });

  test('never takes more than half of the free memory by default; the context gives way last', () => {
    const freeBytes = 2 * 200 * PAGE_BYTES;
    expect(sizeKvCache(input({ freeBytes }))).toEqual({ contextLength: 2048, numPages: 200 });
    expect(sizeKvCache(input({ freeBytes: freeBytes / 2 }))).toEqual({ contextLength: 1600, numPages: 100 });
  });

  test('is what the caller said, to the last whole page', () => {
    expect(sizeKvCache(input({ kvMemory: 300 * PAGE_BYTES + 7 }))).toEqual({
      contextLength: 2048,
      numPages: 300,
    });
    expect(sizeKvCache(input({ kvMemory: 10 * PAGE_BYTES }))).toEqual({ contextLength: 160, numPages: 10 });
  });

  test.each([
    [
      'a context beyond what the model was made for',
      { contextLength: 2049 },
      'invalid_parameter',
      /at most 2048/,
    ],
    [
      'memory that cannot hold the context',
      { contextLength: 1000, kvMemory: 62 * PAGE_BYTES },
      'invalid_parameter',
      /kvCache\.memory/,
    ],
    ['memory below one page', { kvMemory: PAGE_BYTES - 1 }, 'invalid_parameter', /16 tokens/],
    ['memory that is not there', { kvMemory: 2 ** 31 }, 'out_of_memory', /2048\.0 MiB.*1024\.0 MiB/],
    [
      'a context that half of the free memory cannot hold',
      { contextLength: 1000, freeBytes: 125 * PAGE_BYTES },
      'out_of_memory',
      /1000 tokens/,
    ],
    ['a machine without room for one page', { freeBytes: PAGE_BYTES }, 'out_of_memory', /16 tokens/],
  ])('refuses %s', (_what, overrides, code, message) => {
    expect(() => sizeKvCache(input(overrides))).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  test('a context that just fits is taken', () => {
    const kvMemory = 63 * PAGE_BYTES;
    expect(sizeKvCache(input({ contextLength: 1000, kvMemory }))).toEqual({
      contextLength: 1000,
      numPages: 63,
    });
    const freeBytes = 126 * PAGE_BYTES;
    expect(sizeKvCache(input({ contextLength: 1000, freeBytes }))).toEqual({
      contextLength: 1000,
      numPages: 63,
    });
  });
});
