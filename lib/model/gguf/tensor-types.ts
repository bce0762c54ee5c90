import type { StoredFormat } from '../../native/abi';

export interface GgufTensorType {
  readonly name: string;
  readonly elementsPerBlock: number;
  readonly bytesPerBlock: number;
  /** Null: the type can be measured, so that the file can be checked, but not computed with. */
  readonly format: StoredFormat | null;
}

const type = (
  name: string,
  elementsPerBlock: number,
  bytesPerBlock: number,
  format: StoredFormat | null = null,
): GgufTensorType => ({ name, elementsPerBlock, bytesPerBlock, format });

/**
 * Tensor types by the number stored in the file.
 * Source: ggml's ggml_type list and block structures; the numbers 4, 5, 31..33 and 36..38 were withdrawn.
 */
export const GGUF_TENSOR_TYPES: ReadonlyMap<number, GgufTensorType> = new Map([
  [0, type('F32', 1, 4, 'f32')],
  [1, type('F16', 1, 2, 'f16')],
  [2, type('Q4_0', 32, 18, 'q4_0')],
  [3, type('Q4_1', 32, 20, 'q4_1')],
  [6, type('Q5_0', 32, 22, 'q5_0')],
  [7, type('Q5_1', 32, 24, 'q5_1')],
  [8, type('Q8_0', 32, 34, 'q8_0')],
  [9, type('Q8_1', 32, 36)],
  [10, type('Q2_K', 256, 84, 'q2_k')],
  [11, type('Q3_K', 256, 110, 'q3_k')],
  [12, type('Q4_K', 256, 144, 'q4_k')],
  [13, type('Q5_K', 256, 176, 'q5_k')],
  [14, type('Q6_K', 256, 210, 'q6_k')],
  [15, type('Q8_K', 256, 292)],
  [16, type('IQ2_XXS', 256, 66)],
  [17, type('IQ2_XS', 256, 74)],
  [18, type('IQ3_XXS', 256, 98)],
  [19, type('IQ1_S', 256, 50)],
  [20, type('IQ4_NL', 32, 18, 'iq4_nl')],
  [21, type('IQ3_S', 256, 110)],
  [22, type('IQ2_S', 256, 82)],
  [23, type('IQ4_XS', 256, 136, 'iq4_xs')],
  [24, type('I8', 1, 1)],
  [25, type('I16', 1, 2)],
  [26, type('I32', 1, 4)],
  [27, type('I64', 1, 8)],
  [28, type('F64', 1, 8, 'f64')],
  [29, type('IQ1_M', 256, 56)],
  [30, type('BF16', 1, 2, 'bf16')],
  [34, type('TQ1_0', 256, 54)],
  [35, type('TQ2_0', 256, 66)],
  [39, type('MXFP4', 32, 17, 'mxfp4')],
  [40, type('NVFP4', 64, 36)],
  [41, type('Q1_0', 128, 18)],
]);
