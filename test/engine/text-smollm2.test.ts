import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { type OpenedModel, openModel } from '../../lib/engine/text/opened-model';
import { resolveSource } from '../../lib/model/source/resolve-source';
import { decodeTokens } from '../../lib/tokenizer/stream-decoder';
import type { Tokenizer } from '../../lib/tokenizer/tokenizer';
import { SMOLLM2_SOURCE } from '../parity/smollm2';
import { hashNumbers, nastyStrings } from '../unit/tokenizer/nasty-strings';

const folder = join(__dirname, '..', 'fixtures', 'tokenizers');
const { texts } = JSON.parse(readFileSync(join(folder, 'tokenizer-vectors.json'), 'utf8')) as {
  readonly texts: readonly string[];
};
/** llama.cpp's ids of these texts, made by make_smollm2_ids.mjs. */
const ids = JSON.parse(readFileSync(join(folder, 'smollm2-ids.json'), 'utf8')) as readonly {
  readonly plain: readonly number[];
  readonly parsed: readonly number[];
}[];

let opened: OpenedModel;
let tokenizer: Tokenizer;
beforeAll(async () => {
  const { path } = await resolveSource(SMOLLM2_SOURCE);
  const { signal } = new AbortController();
  opened = await openModel({ path, chatTemplate: null, chatDialect: null, decoderPort: null, signal });
  tokenizer = opened.tokenizer as Tokenizer;
});

test("SmolLM2's tokens are those of llama.cpp, special tokens parsed or not", () => {
  for (const [i, text] of texts.entries()) {
    expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(ids[i]?.plain);
    const parsed = tokenizer.encode(text, { parseSpecialTokens: true });
    expect([...parsed], JSON.stringify(text)).toEqual(ids[i]?.parsed);
  }
});

// Reference: Hugging Face tokenizers with this vocabulary, made by make_smollm2_hashes.py.
test("SmolLM2's tokens of 5,000 nasty strings are those of tokenizers; what its vocabulary lacks is refused", () => {
  const { seed, count, group, hashes } = JSON.parse(
    readFileSync(join(folder, 'smollm2-hashes.json'), 'utf8'),
  ) as { readonly seed: number; readonly count: number; readonly group: number; readonly hashes: string };
  const expected = Buffer.from(hashes, 'base64');
  const rowOf = (text: string): Iterable<number> => {
    try {
      return tokenizer.encode(text);
    } catch (error) {
      expect((error as Error).message).toMatch('cannot express');
      return [0xfffffffe];
    }
  };
  const strings = nastyStrings(seed, count);
  for (let i = 0; i < count; i += group) {
    const texts = strings.slice(i, i + group);
    const hash = hashNumbers(texts.flatMap((text) => [...rowOf(text), 0xffffffff]));
    expect(hash, JSON.stringify(texts)).toBe(expected.readUInt32LE((4 * i) / group));
  }
});

test('every text comes back from them', () => {
  for (const text of texts) {
    const parsed = tokenizer.encode(text, { parseSpecialTokens: true });
    expect(decodeTokens(opened.loaded.tokenTable, parsed, { skipSpecialTokens: false })).toBe(text);
  }
});

test('a control character that its vocabulary lacks is refused by name', () => {
  expect(() => tokenizer.encode('a\u0004')).toThrowError(/U\+0004/);
});

test('the model is described', () => {
  expect(opened.loaded).toMatchObject({
    info: {
      family: 'llama',
      contextLength: 8192,
      vocabSize: 49_152,
      numLayers: 30,
      headDim: 64,
      numKvHeads: 3,
    },
    eosTokens: [2],
    bosToken: null,
    hasChatTemplate: true,
    maxTextLength: 131_072,
  });
});
