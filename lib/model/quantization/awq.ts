import type { ConfigReader } from '../config-reader';
import { quoted, unsupportedModel } from '../model-file-error';
import type { QuantizationMethod } from './method';
import { SCALE_TYPES } from './module-tensors';

const MAX_GROUP_SIZE = 1 << 24;

/** AWQ in the GEMM packing. Source: AutoAWQ, packing utilities and GEMM linear module. */
export function awqMethod(config: ConfigReader, prefix: string): QuantizationMethod {
  const integer = (name: string, max: number): number | null => config.integer(`${prefix}.${name}`, -1, max);
  const refuse = (what: string, supported: string) =>
    unsupportedModel(config.file, `AWQ with ${what}`, [supported]);
  const bits = integer('bits', 32) ?? integer('w_bit', 32) ?? 4;
  if (bits !== 4) throw refuse(`${bits} bits`, '4 bits');
  const version = (config.string(`${prefix}.version`) ?? 'gemm').toLowerCase();
  if (version !== 'gemm') throw refuse(`version ${quoted(version)}`, 'gemm');
  if (config.boolean(`${prefix}.zero_point`) === false) throw refuse('zero_point false', 'zero_point true');
  const groupSize = integer('group_size', MAX_GROUP_SIZE) ?? integer('q_group_size', MAX_GROUP_SIZE) ?? 128;
  return {
    find(tensors, [rows, columns]) {
      const codes = tensors.get('qweight');
      if (codes === null) return null;
      const groupColumns = groupSize <= 0 ? columns : groupSize;
      const numGroups = Math.ceil(columns / groupColumns);
      tensors.requireType(codes, ['I32']);
      tensors.requireShape(codes, [columns, rows / 8]);
      return {
        format: 'awq_4',
        codes,
        quantization: {
          storedRows: rows,
          firstRow: 0,
          groupRows: 1,
          groupColumns,
          isSymmetric: false,
          hasOrderedGroups: true,
          hasZerosLessOne: false,
          scales: tensors.component(tensors.require('scales'), SCALE_TYPES, [numGroups, rows]),
          zeros: tensors.component(tensors.require('qzeros'), ['I32'], [numGroups, rows / 8]),
          groupIndex: null,
        },
      };
    },
  };
}
