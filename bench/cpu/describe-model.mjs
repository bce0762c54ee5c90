// Tells bench/native/engine_bench.cpp what a model file holds, in words separated by blanks; model_description.cpp reads
// them. Only for models of equal layers with nothing but norms, attention and a gated MLP: those that are measured.

import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { root } from '../../scripts/run.mjs';
import { places } from './places.mjs';

const require = createRequire(import.meta.url);

/** Path of the description, which is written anew. */
export async function describeModel(file) {
  const { openCheckpoint } = require(join(root, 'dist', 'model', 'checkpoint.js'));
  const { describeDecoder } = require(join(root, 'dist', 'model', 'families', 'registry.js'));
  const checkpoint = await openCheckpoint(file);
  const { spec, tensors } = describeDecoder(checkpoint);
  const [{ size, mtimeMs }] = checkpoint.files;
  const words = [...specWords(spec), 'file', size, mtimeMs, '\ntensors', tensors.length];
  for (const { role, source } of tensors) words.push(...tensorWords(role, source));
  mkdirSync(places.models, { recursive: true });
  const path = join(places.models, `${basename(file)}.words`);
  writeFileSync(path, `${words.join(' ')}\n`);
  return path;
}

function specWords({ vocabSize, hiddenSize, contextLength, layers, head, ropeTables }) {
  const [{ attention, mlp, norm }] = layers;
  if (layers.some((layer) => JSON.stringify(layer) !== JSON.stringify(layers[0])))
    throw new Error('only models of equal layers can be described');
  const { numQHeads, numKvHeads, headDim, scale } = attention;
  const sizes = [vocabSize, hiddenSize, contextLength, layers.length, numQHeads, numKvHeads, headDim, scale];
  const [{ rotaryDim, style, frequencies }] = ropeTables;
  return [
    'spec',
    ...sizes,
    mlp.intermediateSize,
    norm.epsilon,
    head.isTied ? 1 : 0,
    '\nrope',
    rotaryDim,
    style,
    ...frequencies,
    '\n',
  ];
}

function tensorWords(role, { format, shape, slices, rowOrder }) {
  const places = slices.flatMap(({ offset, byteLength }) => [offset, byteLength]);
  const order = rowOrder === null ? [0] : [rowOrder.length, ...rowOrder];
  return ['\n', role, format, shape.length, ...shape, slices.length, ...places, ...order];
}
