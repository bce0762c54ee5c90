import type { StoredFormat } from '../../native/abi';
import type { StoredTensor } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import { quoted, unsupportedModel } from '../model-file-error';
import { float8Weight } from './float8';
import type { QuantizationMethod, QuantizedWeight } from './method';
import type { ModuleTensors } from './module-tensors';
import { scaleGrid } from './scale-grid';

const FORMATS = [
  'pack-quantized',
  'int-quantized',
  'float-quantized',
  'naive-quantized',
  'mxfp4-pack-quantized',
  'mixed-precision',
  'dense',
];
const PACKED: ReadonlyMap<number, StoredFormat> = new Map([
  [2, 'packed_2'],
  [4, 'packed_4'],
  [8, 'packed_8'],
]);

/**
 * compressed-tensors. The config's groups say which module has which bits and groups; the shapes of each module's
 * tensors say it again, for that module alone, and are what is read here.
 * Source: compressed-tensors, compressors.
 */
export function compressedTensorsMethod(config: ConfigReader, prefix: string): QuantizationMethod {
  const format = config.string(`${prefix}.format`) ?? 'dense';
  const refuse = (what: string, supported: readonly string[]) =>
    unsupportedModel(config.file, `compressed-tensors with ${what}`, supported);
  if (!FORMATS.includes(format)) throw refuse(`format ${quoted(format)}`, FORMATS);
  const sparsity = config.string(`${prefix}.sparsity_config.format`) ?? 'dense';
  if (sparsity !== 'dense') throw refuse(`sparsity format ${quoted(sparsity)}`, ['dense']);
  if (config.has(`${prefix}.transform_config.config_groups`)) throw refuse('transforms', ['none']);
  return { find: findCompressed };
}

function findCompressed(tensors: ModuleTensors, shape: readonly [number, number]): QuantizedWeight | null {
  const packed = tensors.get('weight_packed');
  if (packed?.typeName === 'U8') return mxfp4Weight(tensors, packed, shape);
  if (packed !== null) return packedWeight(tensors, packed, shape);
  const codes = tensors.get('weight');
  if (codes?.typeName === 'F8_E4M3') return float8Weight(tensors, codes, shape);
  return codes?.typeName === 'I8' ? byteWeight(tensors, codes, shape) : null;
}

function packedWeight(
  tensors: ModuleTensors,
  codes: StoredTensor,
  shape: readonly [number, number],
): QuantizedWeight {
  const [rows, columns] = shape;
  const bits = bitsOf(tensors, codes, columns);
  tensors.requireType(codes, ['I32']);
  tensors.requireShape(codes, [rows, Math.ceil((columns * bits) / 32)]);
  tensors.get('weight_shape');
  const grid = scaleGrid(tensors, tensors.require('weight_scale'), shape);
  const zeros = tensors.get('weight_zero_point');
  const groupIndex = tensors.get('weight_g_idx');
  const numGroups = grid.scales.shape[1];
  return {
    format: PACKED.get(bits) ?? 'packed_4',
    codes,
    quantization: {
      storedRows: rows,
      firstRow: 0,
      isSymmetric: zeros === null,
      hasOrderedGroups: groupIndex === null || numGroups === 1,
      hasZerosLessOne: false,
      zeros:
        zeros === null ? null : tensors.component(zeros, ['I32'], [Math.ceil((rows * bits) / 32), numGroups]),
      groupIndex: groupIndex === null ? null : tensors.component(groupIndex, ['I32'], [1, columns]),
      ...grid,
    },
  };
}

/** The bits that fill these words with a row; a row is long enough for only one number to fit. */
function bitsOf(tensors: ModuleTensors, codes: StoredTensor, columns: number): number {
  const numWords = codes.shape[1] ?? 0;
  for (const bits of PACKED.keys()) if (Math.ceil((columns * bits) / 32) === numWords) return bits;
  const found = `${((numWords * 32) / columns).toFixed(1)} bits for each of ${columns} inputs`;
  throw tensors.unsupported(
    codes,
    found,
    [...PACKED.keys()].map((bits) => `${bits} bits`),
  );
}

/** Columns that share a scale in MXFP4; the same format with 16 is NVFP4. */
const MXFP4_GROUP = 32;

function mxfp4Weight(
  tensors: ModuleTensors,
  codes: StoredTensor,
  [rows, columns]: readonly [number, number],
): QuantizedWeight {
  tensors.requireShape(codes, [rows, columns / 2]);
  const scales = tensors.component(
    tensors.require('weight_scale'),
    ['U8', 'F8_E8M0'],
    [rows, Math.ceil(columns / MXFP4_GROUP)],
  );
  return {
    format: 'packed_e2m1',
    codes,
    quantization: {
      storedRows: rows,
      firstRow: 0,
      groupRows: 1,
      groupColumns: MXFP4_GROUP,
      isSymmetric: true,
      hasOrderedGroups: true,
      hasZerosLessOne: false,
      scales: { ...scales, dtype: 'f8_e8m0' },
      zeros: null,
      groupIndex: null,
    },
  };
}

function byteWeight(
  tensors: ModuleTensors,
  codes: StoredTensor,
  shape: readonly [number, number],
): QuantizedWeight {
  tensors.requireShape(codes, shape);
  tensors.get('input_scale'); // of static activations, which stay as they are here
  tensors.get('input_zero_point');
  const grid = scaleGrid(tensors, tensors.require('weight_scale'), shape);
  const zeros = tensors.get('weight_zero_point');
  return {
    format: 'i8',
    codes,
    quantization: {
      storedRows: shape[0],
      firstRow: 0,
      isSymmetric: zeros === null,
      hasOrderedGroups: true,
      hasZerosLessOne: false,
      zeros: zeros === null ? null : tensors.component(zeros, ['I8'], grid.scales.shape),
      groupIndex: null,
      ...grid,
    },
  };
}
