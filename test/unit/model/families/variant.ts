import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openCheckpoint } from '../../../../lib/model/checkpoint';
import type { Checkpoint, JsonObject, StoredTensor } from '../../../../lib/model/checkpoint-types';
import { describeDecoder } from '../../../../lib/model/families/registry';
import { GgufMetadata, type GgufValue } from '../../../../lib/model/gguf/metadata';
import { JsonConfig } from '../../../../lib/model/json-config';
import { fixturePath } from '../../../parity/fixtures';

export interface Change {
  /** Keys of config.json; undefined removes one. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** GGUF keys; null removes one. */
  readonly keys?: Readonly<Record<string, GgufValue | null>>;
  /** Tensors; null removes one. */
  readonly tensors?: Readonly<Record<string, Partial<StoredTensor> | null>>;
  readonly ropeVector?: Float32Array;
}

const checkpoints = new Map<string, Checkpoint>();

/** To be awaited before the fixtures are used. */
export async function openFixtures(names: readonly string[]): Promise<void> {
  for (const name of names) checkpoints.set(name, await openCheckpoint(fixturePath(name)));
}

/** A fixture as it is. */
export const checkpointOf = (name: string): Checkpoint => checkpoints.get(name) as Checkpoint;

/** Its config.json. */
export const configOf = (name: string): JsonObject =>
  JSON.parse(readFileSync(join(fixturePath(name), 'config.json'), 'utf8')) as JsonObject;

/** The fixture's checkpoint with some values replaced. */
export function variant(name: string, change: Change): Checkpoint {
  const original = checkpoints.get(name) as Checkpoint;
  const tensors = new Map(original.tensors);
  for (const [tensor, values] of Object.entries(change.tensors ?? {})) {
    if (values === null) tensors.delete(tensor);
    else tensors.set(tensor, { ...(tensors.get(tensor) ?? newTensor(tensor)), ...values });
  }
  const ropeVectors =
    change.ropeVector === undefined
      ? original.ropeVectors
      : new Map([['rope_freqs.weight', change.ropeVector]]);
  return { ...original, tensors, ropeVectors, config: changedConfig(name, original, change) };
}

function changedConfig(name: string, { config }: Checkpoint, change: Change): Checkpoint['config'] {
  if (config.kind === 'huggingface') {
    const text = JSON.stringify({ ...configOf(name), ...change.config }); // drops what is undefined
    const object = JSON.parse(text) as JsonObject;
    return { kind: 'huggingface', values: new JsonConfig('config.json', object) };
  }
  const { values } = config;
  const entries = new Map<string, GgufValue>(values.entries());
  for (const [key, value] of Object.entries(change.keys ?? {})) {
    if (value === null) entries.delete(key);
    else entries.set(key, value);
  }
  return { ...config, values: new GgufMetadata('model.gguf', entries) };
}

const newTensor = (name: string): StoredTensor => ({
  name,
  typeName: 'F32',
  format: 'f32',
  shape: [1],
  file: 0,
  offset: 0,
  byteLength: 4,
});
export const number = (value: number | bigint): GgufValue => ({
  kind: 'number',
  type: 'f64',
  value,
  offset: 0,
});
export const words = (value: string): GgufValue => ({ kind: 'string', bytes: Buffer.from(value), offset: 0 });
export const numbers = (values: readonly number[]): GgufValue => ({
  kind: 'numbers',
  type: 'i32',
  values: Int32Array.from(values),
  offset: 0,
});

export const described = (name: string, change: Change) => describeDecoder(variant(name, change));
