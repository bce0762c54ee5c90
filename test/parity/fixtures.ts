import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const fixtures = join(__dirname, '..', 'fixtures');

export interface ReferencePrompt {
  readonly tokens: readonly number[];
  /** Positions whose logits were kept. */
  readonly positions: readonly number[];
  /** Greedy continuation; per token, the margin between the two highest logits and the highest absolute one. */
  readonly newTokens: readonly number[];
  readonly margins: readonly number[];
  readonly maxAbs: readonly number[];
}

export interface FixtureReference {
  readonly vocabSize: number;
  readonly prompts: readonly (ReferencePrompt & { readonly logits: readonly Float32Array[] })[];
}

/** Names of all family fixtures: each has a model and a reference. */
export const FIXTURES: readonly string[] = fixtureNames(fixtures);

const stored = join(fixtures, 'stored');

/** Names of the fixtures that have a stored format each, made by test/fixtures/stored/make_stored_fixtures.py. */
export const STORED_FIXTURES: readonly string[] = fixtureNames(stored);

/** Low-rank adapters of some of them, made by test/fixtures/make_adapters.py. */
export const ADAPTERS = join(fixtures, 'adapters');
const ADAPTER_REFERENCES: readonly string[] = fixtureNames(ADAPTERS);

function fixtureNames(folder: string): readonly string[] {
  return readdirSync(join(folder, 'references'))
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -'.json'.length));
}

function folderOf(name: string): string {
  if (ADAPTER_REFERENCES.includes(name)) return ADAPTERS;
  return STORED_FIXTURES.includes(name) ? stored : fixtures;
}

/** A GGUF file, the first of several, or a directory. */
export function fixturePath(name: string): string {
  const models = join(folderOf(name), 'models');
  const file = readdirSync(models).find((entry) =>
    new RegExp(`^${name}(-00001-of-\\d+)?\\.gguf$`).test(entry),
  );
  return join(models, file ?? name);
}

/** What transformers computed for a fixture, written by test/fixtures/make_fixtures.py. */
export function fixtureReference(name: string): FixtureReference {
  const path = join(folderOf(name), 'references', name);
  const { vocabSize, prompts } = JSON.parse(readFileSync(`${path}.json`, 'utf8')) as FixtureReference;
  const bytes = readFileSync(`${path}.f32`);
  const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  let row = 0;
  return {
    vocabSize,
    prompts: prompts.map((prompt) => ({
      ...prompt,
      logits: prompt.positions.map(() => {
        row += 1;
        return all.subarray((row - 1) * vocabSize, row * vocabSize);
      }),
    })),
  };
}

/** Largest difference between the two, as a share of the reference's largest absolute value. */
export function relativeError(actual: ArrayLike<number>, reference: Float32Array): number {
  let worst = 0;
  let largest = 0;
  for (const [i, expected] of reference.entries()) {
    const difference = Math.abs((actual[i] as number) - expected);
    if (Number.isNaN(difference)) return Number.NaN;
    worst = Math.max(worst, difference);
    largest = Math.max(largest, Math.abs(expected));
  }
  return worst / largest;
}
