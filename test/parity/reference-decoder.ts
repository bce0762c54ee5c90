import { closeSync, openSync, readSync } from 'node:fs';
import { STORED_FORMATS } from '../../lib/native/abi';
import type { NativeTensor } from '../../lib/native/addon';
import type { DecoderSpec, WeightSource } from '../../lib/native/decoder-spec';
import { float64Logits } from '../unit/native/float64-decoder';
import { dequantize } from './dequantize';

type Weights = ReadonlyMap<string, Float64Array>;

/**
 * Executes a description in float64 with plain loops. It stands between transformers' logits and the native decoder, so
 * that a difference can be blamed on one of them. The function it returns computes the logits after every token.
 */
export function referenceDecoder(
  spec: DecoderSpec,
  files: readonly { readonly path: string }[],
  tensors: readonly NativeTensor[],
): (tokens: readonly number[]) => number[][] {
  const weights = readWeights(files, tensors);
  const { ropeSwitchLength } = spec;
  return (tokens) => {
    const isLong = ropeSwitchLength !== null && tokens.length > ropeSwitchLength;
    return float64Logits(spec, weights, tokens, isLong ? 1 : 0);
  };
}

function readWeights(files: readonly { readonly path: string }[], tensors: readonly NativeTensor[]): Weights {
  const weights = new Map<string, Float64Array>();
  for (const { role, source } of tensors) {
    const [rows = 1, columns = 1] = source.shape;
    const parts = source.slices.map(({ file, offset, byteLength }) => {
      const bytes = new Uint8Array(byteLength);
      const handle = openSync(files[file]?.path ?? '', 'r');
      readSync(handle, bytes, 0, byteLength, offset);
      closeSync(handle);
      return bytes;
    });
    const numStored = source.rowOrder === null || !source.isTransposed ? rows : storedRows(source, columns);
    const stored = dequantize(source.format, Buffer.concat(parts), numStored * columns);
    const values = source.isTransposed ? transposed(stored, columns) : stored;
    weights.set(role, source.rowOrder === null ? values : reordered(values, source.rowOrder, columns));
  }
  return weights;
}

const storedRows = ({ format, slices }: WeightSource, columns: number): number => {
  const { elementsPerBlock, bytesPerBlock } = STORED_FORMATS[format];
  const numBytes = slices.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return (numBytes / bytesPerBlock) * (elementsPerBlock / columns);
};

/** [columns][rows] to [rows][columns]. */
function transposed(values: Float64Array, columns: number): Float64Array {
  const rows = values.length / columns;
  return values.map((_, i) => values[(i % columns) * rows + Math.floor(i / columns)] as number);
}

function reordered(values: Float64Array, rowOrder: Int32Array, columns: number): Float64Array {
  const out = new Float64Array(rowOrder.length * columns);
  for (const [row, stored] of rowOrder.entries()) {
    out.set(values.subarray(stored * columns, (stored + 1) * columns), row * columns);
  }
  return out;
}
