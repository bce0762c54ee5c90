import type { StoredTensor } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import type { QuantizationMethod, QuantizedWeight } from './method';
import type { ModuleTensors } from './module-tensors';
import { scaleGrid } from './scale-grid';

const MAX_BLOCK = 1 << 20;

/** 8-bit floats with scales by tensor, row or block: DeepSeek's `fp8` and FBGEMM's. */
export function float8Method(config: ConfigReader, prefix: string): QuantizationMethod {
  const key = `${prefix}.weight_block_size`;
  const size = config.numbers(key);
  const isBlock = size?.length === 2 && size.every((n) => Number.isInteger(n) && n > 0 && n <= MAX_BLOCK);
  if (size !== null && !isBlock) throw config.fault(key, 'two whole numbers', `[${size.join(', ')}]`);
  const block = size === null ? undefined : ([size[0] ?? 1, size[1] ?? 1] as const);
  return {
    find(tensors, shape) {
      const codes = tensors.get('weight');
      if (codes?.typeName !== 'F8_E4M3') return null;
      return float8Weight(tensors, codes, shape, block);
    },
  };
}

export function float8Weight(
  tensors: ModuleTensors,
  codes: StoredTensor,
  shape: readonly [number, number],
  block?: readonly [number, number],
): QuantizedWeight {
  tensors.requireShape(codes, shape);
  // Of static activations, which stay as they are here.
  for (const suffix of ['input_scale', 'activation_scale']) tensors.get(suffix);
  // The name says how the scale was made, not how it is used: both multiply.
  const scale = tensors.get('weight_scale_inv') ?? tensors.require('weight_scale');
  return {
    format: 'f8_e4m3',
    codes,
    quantization: {
      storedRows: shape[0],
      firstRow: 0,
      isSymmetric: true,
      hasOrderedGroups: true,
      hasZerosLessOne: false,
      zeros: null,
      groupIndex: null,
      ...scaleGrid(tensors, scale, shape, block),
    },
  };
}
