import { freeMemory } from '../engine/worker/free-memory';
import { kvBytesPerToken } from '../engine/worker/kv-sizing';
import type { DecoderDescription } from '../model/families/family';
import { Limits, type StoredFormat } from '../native/abi';
import type { WeightSource } from '../native/decoder-spec';

export interface EstimateSettings {
  /** Tokens per sequence; the model's own context without it. */
  readonly context?: number;
  /** Sequences of that length at once, 1 without it. */
  readonly concurrency?: number;
  readonly kvDtype?: 'bf16' | 'f32';
  readonly precision?: 'fast' | 'exact';
}

export interface MemoryEstimate {
  readonly precision: 'fast' | 'exact';
  readonly weightBytes: number;
  readonly kvDtype: 'bf16' | 'f32';
  readonly kvBytesPerToken: number;
  readonly contextLength: number;
  readonly concurrency: number;
  readonly kvBytes: number;
  readonly totalBytes: number;
  /** Memory that this process may still take. */
  readonly freeBytes: number;
}

/** Weights in their compute layouts, and KV pages for `concurrency` sequences of the whole context. */
export function estimateMemory(
  { spec, tensors }: DecoderDescription,
  settings: EstimateSettings,
): MemoryEstimate {
  const precision = settings.precision ?? 'fast';
  const kvDtype = settings.kvDtype ?? (precision === 'exact' ? 'f32' : 'bf16');
  const contextLength = settings.context ?? spec.contextLength;
  const concurrency = settings.concurrency ?? 1;
  const perToken = kvBytesPerToken(spec, kvDtype);
  const weightBytes = tensors.reduce((sum, { source }) => sum + packedBytes(source, precision), 0);
  const pages = concurrency * Math.ceil(contextLength / Limits.pageSize);
  const kvBytes = pages * Limits.pageSize * perToken;
  const totalBytes = weightBytes + kvBytes;
  const sizes = { precision, weightBytes, kvDtype, kvBytesPerToken: perToken, contextLength, concurrency };
  return { ...sizes, kvBytes, totalBytes, freeBytes: freeMemory() };
}

/** Rows of a packed matrix come in panels of this many. Source: native/base/packed_matrix.h. */
const PANEL_ROWS = 32;

/** Bits per weight of a packed matrix: the values, and 16-bit scales (and minimums) per group of 32 or 16. */
const PACKED_BITS: Readonly<Record<StoredFormat, number>> = {
  f32: 32,
  f16: 16,
  bf16: 16,
  q4_0: 4.5,
  q4_1: 5,
  q8_0: 8.5,
  q4_k: 5,
  q6_k: 7,
};
/** With `exact`, the scales of k-quants are kept as 32-bit products. */
const EXACT_BITS: Readonly<Partial<Record<StoredFormat, number>>> = { q4_k: 6, q6_k: 8 };

function packedBytes({ format, shape }: WeightSource, precision: 'fast' | 'exact'): number {
  const [rows = 1, columns] = shape;
  if (columns === undefined) return rows * 4;
  const bits = (precision === 'exact' ? EXACT_BITS[format] : undefined) ?? PACKED_BITS[format];
  return (Math.ceil(rows / PANEL_ROWS) * PANEL_ROWS * columns * bits) / 8;
}
