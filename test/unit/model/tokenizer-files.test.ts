import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readTokenizerFiles } from '../../../lib/model/tokenizer-files';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tokenizer-files-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const FILES = [
  'tokenizer.json',
  'tokenizer.model',
  'sentencepiece.bpe.model',
  'spiece.model',
  'vocab.json',
  'merges.txt',
  'vocab.txt',
];
const read = () => readTokenizerFiles(folder, null, async () => null, undefined);

test.each<[string, readonly string[], string | undefined]>([
  ['tokenizer.json comes first', FILES, 'huggingface'],
  ['tokenizer.model comes before other files', FILES.slice(1), 'tokenizer-model'],
  ['XLM-R’s name for a SentencePiece model is known', FILES.slice(2), 'tokenizer-model'],
  ['so is T5’s', FILES.slice(3), 'tokenizer-model'],
  ['vocab.json goes with merges.txt', FILES.slice(4), 'merges'],
  ['vocab.json alone is none', ['vocab.json'], undefined],
  ['vocab.txt comes last', ['vocab.json', 'vocab.txt'], 'word-list'],
  ['no file is no tokenizer', [], undefined],
])('%s', async (_, names, kind) => {
  for (const name of names) writeFileSync(join(folder, name), name);
  expect((await read())?.kind).toBe(kind);
});

test('text that is no UTF-8 is refused, the bytes of a tokenizer.model are not', async () => {
  writeFileSync(join(folder, 'tokenizer.model'), Buffer.from([0xff]));
  expect(await read()).toMatchObject({ kind: 'tokenizer-model', content: Uint8Array.of(0xff) });
  writeFileSync(join(folder, 'tokenizer.json'), Buffer.from([0xff]));
  await expect(read()).rejects.toMatchObject({ code: 'invalid_model_file' });
});
