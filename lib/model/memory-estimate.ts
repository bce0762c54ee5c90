import { AutoglmError } from '../errors';
import {
  type ComputeLayout,
  KV_DTYPES,
  type KvDtype,
  Limits,
  STORED_FORMATS,
  type StoredFormat,
} from '../native/abi';
import type { NativeTensor } from '../native/addon';
import { type DecoderSpec, isBidirectional, type WeightSource } from '../native/decoder-spec';
import { estimateScratch, type StepSize } from './scratch-estimate';

export interface MemoryEstimateInput extends StepSize {
  readonly spec: DecoderSpec;
  readonly tensors: readonly NativeTensor[];
  readonly precision: 'fast' | 'exact';
  readonly kvDtype: KvDtype;
  /** Tokens of each sequence. */
  readonly contextLength: number;
  /** Sequences held at once. */
  readonly concurrency: number;
}

/** What one tensor becomes in memory. */
export interface TensorMemory {
  readonly role: string;
  readonly storedFormat: StoredFormat;
  readonly layout: ComputeLayout;
  readonly shape: readonly number[];
  readonly storedBytes: number;
  readonly bytes: number;
  /** Of the bytes in memory, scales included. */
  readonly bitsPerWeight: number;
}

export interface MemoryEstimate {
  readonly weightBytes: number;
  /** Bytes by compute layout; layouts that do not occur are absent. */
  readonly layouts: Readonly<Partial<Record<ComputeLayout, number>>>;
  readonly kvBytesPerToken: number;
  /** Of one token, layer by layer. */
  readonly kvBytesByLayer: readonly number[];
  readonly kvBytes: number;
  /** Working memory of a step. */
  readonly scratchBytes: number;
  /** Weights, KV cache and working memory. The process itself comes on top: some tens of MiB. */
  readonly totalBytes: number;
  readonly tensors: readonly TensorMemory[];
}

/** Sizes of the layouts that native/base/packed_matrix.h defines. */
const PANEL_ROWS = 32;
const GROUP = 32;
const ALIGNMENT = 64;
/** A page holds each value padded to this many dims: KvPages in native/base/op_params.h. */
const VALUE_PAD = 16;
/** Its keys fill lanes of this size. */
const LANE_BYTES = 4;

/** Computes from the description alone what loading it will take; no weight is read. */
export function estimateMemory(input: MemoryEstimateInput): MemoryEstimate {
  const { spec, precision, kvDtype, contextLength, concurrency, threads } = input;
  const tensors = input.tensors.map((tensor) => tensorMemory(tensor, precision));
  const layouts: Partial<Record<ComputeLayout, number>> = {};
  let weightBytes = 0;
  for (const { layout, bytes } of tensors) {
    layouts[layout] = (layouts[layout] ?? 0) + bytes;
    weightBytes += bytes;
  }
  const kvBytesByLayer = layerKvBytes(spec, kvDtype);
  const perToken = kvBytesByLayer.reduce((sum, bytes) => sum + bytes, 0);
  const numPages = Math.ceil(contextLength / Limits.pageSize) * concurrency;
  const kvBytes = perToken * Limits.pageSize * numPages;
  // Where every token sees all others, an input is computed in one step.
  const maxStepTokens = Math.max(input.maxStepTokens, isBidirectional(spec) ? contextLength : 0);
  const scratchBytes = estimateScratch(spec, input.tensors, precision, { maxStepTokens, threads });
  return {
    weightBytes,
    layouts,
    kvBytesPerToken: perToken,
    kvBytesByLayer,
    kvBytes,
    scratchBytes,
    totalBytes: weightBytes + kvBytes + scratchBytes,
    tensors,
  };
}

function layerKvBytes(spec: DecoderSpec, dtype: KvDtype): readonly number[] {
  const { bytes, scaleBytes } = KV_DTYPES[dtype];
  const laneDims = LANE_BYTES / bytes;
  return spec.layers.map(({ attention }) => {
    const { headDim, valueDim, numKvHeads } = attention;
    if (scaleBytes > 0) checkScaled(attention, dtype);
    // A latent is key and value at once.
    const values = attention.latent === null ? Math.ceil(valueDim / VALUE_PAD) * VALUE_PAD : 0;
    const keys = Math.ceil(headDim / laneDims) * laneDims;
    return numKvHeads * ((keys + values) * bytes + 2 * scaleBytes);
  });
}

/** One scale cannot serve a latent and the rotated dims beside it, which differ in size by orders of magnitude. */
function checkScaled({ latent, headDim }: DecoderSpec['layers'][number]['attention'], dtype: KvDtype): void {
  if (latent === null && headDim >= LANE_BYTES) return;
  const what = latent === null ? `heads of ${headDim} dimensions` : 'latent attention (MLA)';
  const allowed = dtype === 'fp8' ? ['bf16'] : ['bf16', 'f32']; // a GPU has no pages of f32
  throw new AutoglmError(
    'invalid_parameter',
    `expected kvCache.dtype to be ${allowed.map((name) => `"${name}"`).join(' or ')} for a model with ${what}, got "${dtype}"`,
    { details: { path: 'kvCache.dtype', found: dtype, allowed } },
  );
}

function tensorMemory({ role, source }: NativeTensor, precision: 'fast' | 'exact'): TensorMemory {
  const { format, shape } = source;
  const [rows = 1, columns] = shape;
  // Vectors are few and small, and become float32 whatever they were.
  const packed = columns === undefined ? FLOATS : packedFormat(source, precision);
  const bytes = columns === undefined ? rows * 4 : matrixBytes(packed, rows, columns);
  return {
    role,
    storedFormat: format,
    layout: packed.layout,
    shape,
    storedBytes: storedBytesOf(source),
    bytes,
    bitsPerWeight: (bytes * 8) / (rows * (columns ?? 1)),
  };
}

/**
 * A transposed tensor is listed whole by each role that takes some of its columns, a quantized one by each that takes
 * some of its rows.
 */
function storedBytesOf({ format, shape, slices, isTransposed, quantization }: WeightSource): number {
  if (isTransposed) {
    return shape.reduce((product, length) => product * length, STORED_FORMATS[format].bytesPerBlock);
  }
  const parts =
    quantization === undefined ? [] : [quantization.scales, quantization.zeros, quantization.groupIndex];
  const bytes = [...slices, ...parts].reduce((sum, part) => sum + (part?.byteLength ?? 0), 0);
  return quantization === undefined ? bytes : (bytes * (shape[0] ?? 0)) / quantization.storedRows;
}

/** As native/base/packed_matrix.h has it. */
interface PackedFormat {
  readonly layout: ComputeLayout;
  readonly scaleBytes: number;
  /** Scales and mins of one row in one group of 32 columns. */
  readonly scalesPerGroup: number;
}

const FLOATS: PackedFormat = { layout: 'f32', scaleBytes: 0, scalesPerGroup: 0 };

/** What native/quant chooses for a matrix: choose_packed_format of packed_matrix.cpp and coded_rows.cpp. */
function packedFormat(
  { format, shape, quantization }: WeightSource,
  precision: 'fast' | 'exact',
): PackedFormat {
  const { computeLayout, scalesPerGroup, hasMin, exactScales } = STORED_FORMATS[format];
  const scaleBytes = precision === 'exact' && exactScales === 'f32' ? 4 : 2;
  if (quantization === undefined) {
    return { layout: computeLayout, scaleBytes, scalesPerGroup: scalesPerGroup * (hasMin ? 2 : 1) };
  }
  const columns = shape[1] ?? 1;
  const { groupColumns, hasOrderedGroups, isSymmetric } = quantization;
  const isWhole = columns % GROUP === 0 && (groupColumns % GROUP === 0 || groupColumns >= columns);
  if (format !== 'f8_e4m3' && hasOrderedGroups && isWhole) {
    return { layout: computeLayout, scaleBytes, scalesPerGroup: isSymmetric ? 1 : 2 };
  }
  if (precision === 'exact' || columns % GROUP !== 0) return FLOATS;
  return { layout: 'q8', scaleBytes: 2, scalesPerGroup: 1 };
}

/** Whole panels of rows, and one float per panel. */
function matrixBytes(format: PackedFormat, rows: number, columns: number): number {
  const numPanels = Math.ceil(rows / PANEL_ROWS);
  const bytes = numPanels * (panelBytes(format, columns) + 4);
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function panelBytes({ layout, scaleBytes, scalesPerGroup }: PackedFormat, columns: number): number {
  const quantized = (bits: number): number =>
    (columns / GROUP) * ((GROUP * PANEL_ROWS * bits) / 8 + PANEL_ROWS * scaleBytes * scalesPerGroup);
  switch (layout) {
    case 'f32':
      return columns * PANEL_ROWS * 4;
    case 'f16':
      return columns * PANEL_ROWS * 2;
    case 'bf16':
      return Math.ceil(columns / 2) * PANEL_ROWS * 4;
    case 'q8':
      return quantized(8);
    case 'q6':
      return quantized(6);
    case 'q4':
    case 'iq4':
    case 'e2m1':
      return quantized(4);
  }
}
