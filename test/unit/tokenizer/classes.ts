import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'vitest';
import type { TokenizerSource } from '../../../lib/model/checkpoint-types';
import { hashNumbers, nastyStrings } from './nasty-strings';

const FOLDER = join(__dirname, '../../fixtures/tokenizers/classes');

/** A file that make_tokenizer_classes.py wrote. */
export function classFile(name: string): Buffer {
  const path = join(FOLDER, name);
  return existsSync(path) ? readFileSync(path) : gunzipSync(readFileSync(`${path}.gz`));
}

interface Hashes {
  readonly seed: number;
  readonly count: number;
  /** Of all strings, so that a difference between the two generators is noticed. */
  readonly strings: number;
  readonly rows: Readonly<Record<string, { readonly group: number; readonly hashes: string }>>;
}

const reference = JSON.parse(classFile('hashes.json').toString()) as Hashes;

export const strings = nastyStrings(reference.seed, reference.count);
export const hashOfStrings = reference.strings;

/** Fails with the first strings whose numbers are not those of the reference. */
export function expectRows(name: string, rowOf: (text: string, i: number) => Iterable<number>): void {
  const { group, hashes } = reference.rows[name] as Hashes['rows'][string];
  const expected = Buffer.from(hashes, 'base64');
  expect(expected.length).toBe(4 * Math.ceil(strings.length / group));
  for (let i = 0; i < strings.length; i += group) {
    const texts = strings.slice(i, i + group);
    const rows = texts.map((text, k) => [...rowOf(text, i + k)]);
    const hash = hashNumbers(rows.flatMap((row) => [...row, 0xffffffff]));
    if (hash === expected.readUInt32LE((4 * i) / group)) continue;
    const shown = texts.map((text, k) => `${JSON.stringify(text)} -> ${JSON.stringify(rows[k])}`);
    expect.fail(`${name}: not as in the reference from string ${i} on:\n${shown.join('\n')}`);
  }
}

const NO_SETTINGS = { tokenizerConfig: null, specialTokensMap: null, addedTokens: null } as const;

/** A tokenizer.json or tokenizer.model that the script wrote. */
export function classSource(name: string): TokenizerSource {
  const content = classFile(name);
  if (name.endsWith('.model'))
    return { kind: 'tokenizer-model', fileName: 'tokenizer.model', content, ...NO_SETTINGS };
  return {
    kind: 'huggingface',
    tokenizerJson: content.toString(),
    tokenizerConfig: null,
    specialTokensMap: null,
  };
}
