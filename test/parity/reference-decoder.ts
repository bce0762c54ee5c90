import { closeSync, openSync, readSync } from 'node:fs';
import type { NativeTensor } from '../../lib/native/addon';
import type {
  AttentionSpec,
  DecoderSpec,
  LayerSpec,
  NormSpec,
  RopeTable,
} from '../../lib/native/decoder-spec';
import { dequantize } from './dequantize';

type Vector = Float64Array;
type Weights = ReadonlyMap<string, Vector>;

/**
 * Executes a DecoderSpec in float64 with plain loops: slow, and short enough to be checked by eye. It stands between
 * transformers' logits and the native decoder, so that a difference can be blamed on one of them.
 * The function it returns computes the logits after each of `positions`.
 */
export function referenceDecoder(
  spec: DecoderSpec,
  files: readonly { readonly path: string }[],
  tensors: readonly NativeTensor[],
): (tokens: readonly number[], positions: readonly number[]) => Vector[] {
  const weights = readWeights(files, tensors);
  const { hiddenSize, vocabSize } = spec;
  const embedding = get(weights, 'embedding');
  const head = spec.head?.isTied ? embedding : get(weights, 'head');
  return (tokens, positions) => {
    const hidden = tokens.map((token) => embedding.slice(token * hiddenSize, (token + 1) * hiddenSize));
    for (const [i, layer] of spec.layers.entries()) runLayer(spec, layer, `layers.${i}.`, weights, hidden);
    return positions.map((position) => {
      const x = normed(hidden[position] as Vector, spec.finalNorm, weights, 'final_norm');
      return matmul(head, x, vocabSize, null);
    });
  };
}

function readWeights(files: readonly { readonly path: string }[], tensors: readonly NativeTensor[]): Weights {
  const weights = new Map<string, Vector>();
  for (const { role, source } of tensors) {
    const [rows = 1, columns = 1] = source.shape;
    const parts = source.slices.map(({ file, offset, byteLength }) => {
      const bytes = new Uint8Array(byteLength);
      const handle = openSync(files[file]?.path ?? '', 'r');
      readSync(handle, bytes, 0, byteLength, offset);
      closeSync(handle);
      return bytes;
    });
    const values = dequantize(source.format, Buffer.concat(parts), rows * columns);
    weights.set(role, source.rowOrder === null ? values : reordered(values, source.rowOrder, columns));
  }
  return weights;
}

function reordered(values: Vector, rowOrder: Int32Array, columns: number): Vector {
  const out = new Float64Array(values.length);
  for (const [row, stored] of rowOrder.entries()) {
    out.set(values.subarray(stored * columns, (stored + 1) * columns), row * columns);
  }
  return out;
}

function get(weights: Weights, role: string): Vector {
  const values = weights.get(role);
  if (values === undefined) throw new Error(`no weight for ${role}`);
  return values;
}

function runLayer(
  spec: DecoderSpec,
  layer: LayerSpec,
  prefix: string,
  weights: Weights,
  hidden: Vector[],
): void {
  const isSandwich = layer.normPlacement === 'sandwich';
  const add = (branch: readonly Vector[], postNorm: string): void => {
    for (const [t, x] of hidden.entries()) {
      const y = branch[t] as Vector;
      const out = isSandwich ? normed(y, layer.norm, weights, prefix + postNorm) : y;
      for (let i = 0; i < x.length; i += 1) x[i] = (x[i] as number) + (out[i] as number);
    }
  };
  const attentionInput = hidden.map((x) => normed(x, layer.norm, weights, `${prefix}attention_norm`));
  add(
    attention(spec, layer.attention, `${prefix}attention.`, weights, attentionInput),
    'attention_post_norm',
  );
  const mlpInput = hidden.map((x) => normed(x, layer.norm, weights, `${prefix}mlp_norm`));
  add(
    mlpInput.map((x) => mlp(layer, `${prefix}mlp.`, weights, x)),
    'mlp_post_norm',
  );
}

function linear(weights: Weights, role: string, x: Vector): Vector {
  const weight = get(weights, role);
  return matmul(weight, x, weight.length / x.length, weights.get(`${role}.bias`) ?? null);
}

function matmul(weight: Vector, x: Vector, rows: number, bias: Vector | null): Vector {
  const out = new Float64Array(rows);
  for (let row = 0; row < rows; row += 1) {
    let sum = bias === null ? 0 : (bias[row] as number);
    for (let i = 0; i < x.length; i += 1) sum += (weight[row * x.length + i] as number) * (x[i] as number);
    out[row] = sum;
  }
  return out;
}

function normed(x: Vector, norm: NormSpec | null, weights: Weights, role: string): Vector {
  if (norm === null) return x;
  const weight = get(weights, role);
  const meanSquare = x.reduce((sum, value) => sum + value * value, 0) / x.length;
  const scale = 1 / Math.sqrt(meanSquare + norm.epsilon);
  return x.map((value, i) => value * scale * (weight[i] as number));
}

function mlp(layer: LayerSpec, prefix: string, weights: Weights, x: Vector): Vector {
  if (layer.mlp.kind !== 'dense' || layer.mlp.activation !== 'silu') throw new Error('not written for this');
  const gate = linear(weights, `${prefix}gate`, x);
  const up = linear(weights, `${prefix}up`, x);
  return linear(
    weights,
    `${prefix}down`,
    gate.map((value, i) => (value / (1 + Math.exp(-value))) * (up[i] as number)),
  );
}

function attention(
  spec: DecoderSpec,
  attentionSpec: AttentionSpec,
  prefix: string,
  weights: Weights,
  inputs: readonly Vector[],
): Vector[] {
  const { numQHeads, numKvHeads, headDim, ropeTable } = attentionSpec;
  const table = ropeTable === null ? null : (spec.ropeTables[ropeTable] ?? null);
  const heads = (role: string, x: Vector, count: number, position: number, isRotated: boolean): Vector[] => {
    const all = linear(weights, prefix + role, x);
    return Array.from({ length: count }, (_, head) => {
      const values = all.slice(head * headDim, (head + 1) * headDim);
      if (!isRotated) return values;
      const ready = normed(values, attentionSpec.qkNorm, weights, `${prefix}${role}_norm`).slice();
      if (table !== null) rotate(ready, table, position);
      return ready;
    });
  };
  const queries = inputs.map((x, t) => heads('q', x, numQHeads, t, true));
  const keys = inputs.map((x, t) => heads('k', x, numKvHeads, t, true));
  const values = inputs.map((x, t) => heads('v', x, numKvHeads, t, false));
  return queries.map((query, t) => {
    const first = attentionSpec.slidingWindow === null ? 0 : Math.max(0, t + 1 - attentionSpec.slidingWindow);
    const outputs = query.map((q, head) => {
      const kvHead = Math.floor((head * numKvHeads) / numQHeads);
      return attend(q, keys, values, { kvHead, first, last: t, scale: attentionSpec.scale });
    });
    return linear(weights, `${prefix}o`, Float64Array.from(outputs.flatMap((output) => [...output])));
  });
}

interface AttendOptions {
  readonly kvHead: number;
  /** Positions that are seen, both inclusive. */
  readonly first: number;
  readonly last: number;
  readonly scale: number;
}

/** One head of one query over keys and values [position][head]. */
function attend(
  q: Vector,
  keys: readonly Vector[][],
  values: readonly Vector[][],
  { kvHead, first, last, scale }: AttendOptions,
): Vector {
  const scores = new Float64Array(last - first + 1);
  for (let t = first; t <= last; t += 1) {
    const k = keys[t]?.[kvHead] as Vector;
    let sum = 0;
    for (let i = 0; i < q.length; i += 1) sum += (k[i] as number) * (q[i] as number);
    scores[t - first] = sum * scale;
  }
  const max = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - max));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const out = new Float64Array(q.length);
  for (const [t, weight] of weights.entries()) {
    const value = values[first + t]?.[kvHead] as Vector;
    for (let i = 0; i < out.length; i += 1)
      out[i] = (out[i] as number) + (weight / total) * (value[i] as number);
  }
  return out;
}

function rotate(x: Vector, table: RopeTable, position: number): void {
  const { rotaryDim, style, frequencies, attentionFactor } = table;
  for (let pair = 0; pair < rotaryDim / 2; pair += 1) {
    const [a, b] = style === 'interleaved' ? [2 * pair, 2 * pair + 1] : [pair, pair + rotaryDim / 2];
    const angle = position * (frequencies[pair] as number);
    const cos = Math.cos(angle) * attentionFactor;
    const sin = Math.sin(angle) * attentionFactor;
    const [first, second] = [x[a] as number, x[b] as number];
    x[a] = first * cos - second * sin;
    x[b] = second * cos + first * sin;
  }
}
