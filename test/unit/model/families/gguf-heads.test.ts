// GGUF files of classifiers and rerankers: which head they have, and what is refused.
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../../../lib/model/checkpoint';
import type { Checkpoint, StoredTensor } from '../../../../lib/model/checkpoint-types';
import { describeDecoder } from '../../../../lib/model/families/registry';
import { GgufMetadata, type GgufValue } from '../../../../lib/model/gguf/metadata';
import { fixturePath } from '../../../parity/fixtures';
import { number } from './variant';

const ENCODERS = join(__dirname, '../../../fixtures/encoders/models');
let reranker: Checkpoint;
let classifier: Checkpoint;
let decoder: Checkpoint;
beforeAll(async () => {
  reranker = await openCheckpoint(join(ENCODERS, 'xlmr-rerank-gguf.gguf'));
  classifier = await openCheckpoint(join(ENCODERS, 'bert-classify-gguf.gguf'));
  decoder = await openCheckpoint(fixturePath('qwen3-q8_0'));
});

function changed(
  checkpoint: Checkpoint,
  keys: Readonly<Record<string, GgufValue>>,
  tensors: Readonly<Record<string, Partial<StoredTensor> | null>> = {},
): Checkpoint {
  const { config } = checkpoint;
  if (config.kind !== 'gguf') throw new Error('not a GGUF file');
  const kept = new Map(checkpoint.tensors);
  for (const [name, change] of Object.entries(tensors)) {
    const like = kept.get(name) ?? (kept.get('cls.output.weight') as StoredTensor);
    if (change === null) kept.delete(name);
    else kept.set(name, { ...like, name, ...change });
  }
  const values = new GgufMetadata(
    'model.gguf',
    new Map([...config.values.entries(), ...Object.entries(keys)]),
  );
  return { ...checkpoint, tensors: kept, config: { ...config, values } };
}

test('the head of a file without a pooling type is used, with its labels', () => {
  expect(describeDecoder(classifier)).toMatchObject({
    pooled: { kind: 'labels', pooling: 'first', labels: ['calm', 'glad', 'sad'], scoring: 'softmax' },
    spec: { pooledLayers: [{ hasTanh: true }, { outSize: 3, hasTanh: false }] },
    info: { warnings: [] },
  });
});

test('a pooling type that makes vectors leaves the head alone', () => {
  const { pooled, spec } = describeDecoder(changed(classifier, { 'bert.pooling_type': number(1) }));
  expect(pooled).toMatchObject({ kind: 'embedding', pooling: 'mean' });
  expect(spec.pooledLayers).toEqual([]);
});

test('a head without the layer that converters leave out of BERT is used, with a warning', () => {
  const bare = changed(reranker, {}, { 'cls.weight': null, 'cls.bias': null });
  const { spec, info, pooled } = describeDecoder(bare);
  expect(spec.pooledLayers).toEqual([{ outSize: 1, hasBias: true, hasTanh: false }]);
  expect(info.warnings).toMatchObject([{ code: 'head_without_pooler' }]);
  expect(pooled).toMatchObject({ labels: ['LABEL_0'], scoring: 'sigmoid' });
});

describe('refused', () => {
  test.each<[string, () => Checkpoint, string, RegExp]>([
    [
      'rank without an output layer',
      () => changed(reranker, {}, { 'cls.output.weight': null }),
      'invalid_model_file',
      /cls\.output.*no tensor/,
    ],
    [
      'a head with a norm',
      () => changed(reranker, {}, { 'cls.norm.weight': { shape: [32] } }),
      'invalid_model_file',
      /norm between/,
    ],
    [
      'a layer of another size',
      () => changed(reranker, {}, { 'cls.weight': { shape: [16, 32] } }),
      'invalid_model_file',
      /cls\.weight/,
    ],
    [
      'rank of a decoder',
      () => changed(decoder, { 'qwen3.pooling_type': number(4) }),
      'unsupported_model',
      /rank\) of a decoder/,
    ],
    [
      'a type that does not exist',
      () => changed(reranker, { 'bert.pooling_type': number(5) }),
      'invalid_model_file',
      /pooling_type.*5/,
    ],
  ])('%s', (_, make, code, message) => {
    expect(() => describeDecoder(make())).toThrowError(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});
