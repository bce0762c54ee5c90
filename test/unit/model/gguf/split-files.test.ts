import { copyFileSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../../../lib/model/checkpoint';
import { parseSplitName } from '../../../../lib/model/gguf/split-name';
import { ggufFile, integerKey, stringKey, tensor } from './gguf-builder';

const fixtures = join(__dirname, '..', '..', '..', 'fixtures', 'stored', 'models');
const PARTS = [1, 2, 3].map((i) => `gguf-split-0000${i}-of-00003.gguf`) as [string, string, string];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'autoglm-split-'));
  for (const part of PARTS) copyFileSync(join(fixtures, part), join(folder, part));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Replaces a part by a file with these keys and one tensor. */
function replacePart(part: string, number: number, count: number, tensorName: string): void {
  const keys = [
    stringKey('general.architecture', 'llama'),
    integerKey('split.no', number),
    integerKey('split.count', count),
  ];
  const tensors = [tensor({ name: tensorName, dims: [8], type: 0, offset: 0 })];
  writeFileSync(join(folder, part), ggufFile({ keys, tensors, dataSize: 32 }));
}

describe('a split GGUF file', () => {
  test.each(PARTS)('opens whole, whichever part is named: %s', async (part) => {
    const checkpoint = await openCheckpoint(join(folder, part));
    expect(checkpoint.files.map(({ path }) => path)).toEqual(PARTS.map((name) => join(folder, name)));
    expect(checkpoint.tensors.size).toBe(12);
    expect(new Set([...checkpoint.tensors.values()].map(({ file }) => file))).toEqual(new Set([0, 1, 2]));
    expect(checkpoint.config).toMatchObject({ kind: 'gguf', architecture: 'llama' });
    expect(checkpoint.tokenizer).not.toBeNull();
  });

  test('opens by its folder when nothing else is there', async () => {
    expect((await openCheckpoint(folder)).files).toHaveLength(3);
    copyFileSync(join(folder, PARTS[0]), join(folder, 'other.gguf'));
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'invalid_model_file' });
  });

  test.each<[string, () => void, RegExp]>([
    [
      'a part is missing',
      () => rmSync(join(folder, PARTS[1])),
      /parts: expected "gguf-split-00002-of-00003\.gguf" in the same folder, found no such file/,
    ],
    [
      'the file has another name',
      () => renameSync(join(folder, PARTS[0]), join(folder, 'model.gguf')),
      /model\.gguf: file name: expected a name that ends in -NNNNN-of-00003\.gguf/,
    ],
    [
      'a part is another one in its place',
      () => copyFileSync(join(folder, PARTS[2]), join(folder, PARTS[1])),
      /00002-of-00003\.gguf: key "split\.no" .*: expected 1, .*found 2/,
    ],
    [
      'a part is of another split',
      () => replacePart(PARTS[2], 2, 5, 'extra.weight'),
      /00003-of-00003\.gguf: key "split\.count" .*: expected 3, .*found 5/,
    ],
    [
      'two parts have the same tensor',
      () => replacePart(PARTS[2], 2, 3, 'token_embd.weight'),
      /tensor "token_embd\.weight": expected each tensor in one part, found it in ".*00001-of-00003\.gguf" as well/,
    ],
    [
      'the parts hold another number of tensors than the first says',
      () => replacePart(PARTS[2], 2, 3, 'extra.weight'),
      /00001-of-00003\.gguf: key "split\.tensors\.count" .*: expected the 11 tensors of all parts, found 12/,
    ],
  ])('is refused when %s', async (_name, damage, message) => {
    damage();
    const first = readdirSync(folder).find((part) => part !== PARTS[1] && part !== PARTS[2]) ?? '';
    await expect(openCheckpoint(join(folder, first))).rejects.toMatchObject({
      code: 'invalid_model_file',
      message: expect.stringMatching(message),
    });
  });
});

test.each<[string, readonly string[] | null]>([
  ['a/b-00002-of-00002.gguf', ['a/b-00001-of-00002.gguf', 'a/b-00002-of-00002.gguf']],
  ['b-00003-of-00002.gguf', null],
  ['b-00000-of-00002.gguf', null],
  ['b-00001-of-99999.gguf', null],
  ['b-1-of-2.gguf', null],
  ['b-00001-of-00002.safetensors', null],
])('the parts beside %s', (name, parts) => {
  expect(parseSplitName(name)?.parts ?? null).toEqual(parts);
});
