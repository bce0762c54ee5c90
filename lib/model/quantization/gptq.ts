import type { StoredFormat } from '../../native/abi';
import type { StoredTensor } from '../checkpoint-types';
import { type ConfigReader, requireInteger } from '../config-reader';
import { quoted, unsupportedModel } from '../model-file-error';
import type { QuantizationMethod, QuantizedWeight } from './method';
import { type ModuleTensors, SCALE_TYPES } from './module-tensors';

const FORMATS: ReadonlyMap<number, StoredFormat> = new Map([
  [2, 'gptq_2'],
  [3, 'gptq_3'],
  [4, 'gptq_4'],
  [8, 'gptq_8'],
]);
const MAX_GROUP_SIZE = 1 << 24;

interface GptqSettings {
  /** Null when modules may differ. */
  readonly bits: number | null;
  /** Null when modules may differ; 0 for one group. */
  readonly groupSize: number | null;
  readonly isSymmetric: boolean;
  readonly isActOrder: boolean;
  readonly hasZerosLessOne: boolean;
  /** GPTQModel's 3-bit zeros of version 1 follow no rule but its own. */
  readonly isByGptqModel: boolean;
}

/**
 * GPTQ, versions 1 and 2 of its zeros, with or without act-order.
 * Source: GPTQModel, quantization config and linear modules.
 */
export function gptqMethod(config: ConfigReader, prefix: string): QuantizationMethod {
  const settings = readSettings(config, prefix);
  return { find: (tensors, shape) => findGptq(settings, tensors, shape) };
}

function readSettings(config: ConfigReader, prefix: string): GptqSettings {
  const bits = requireInteger(config, `${prefix}.bits`, 1, 32);
  const refuse = (what: string, supported: readonly string[]) =>
    unsupportedModel(config.file, `GPTQ with ${what}`, supported);
  if (!FORMATS.has(bits))
    throw refuse(
      `${bits} bits`,
      [...FORMATS.keys()].map((known) => `${known} bits`),
    );
  const format = config.string(`${prefix}.checkpoint_format`) ?? 'gptq';
  if (format !== 'gptq' && format !== 'gptq_v2')
    throw refuse(`checkpoint_format ${quoted(format)}`, ['gptq', 'gptq_v2']);
  const words = config.string(`${prefix}.pack_dtype`) ?? 'int32';
  if (words !== 'int32') throw refuse(`pack_dtype ${quoted(words)}`, ['int32']);
  const groupSize = config.integer(`${prefix}.group_size`, -1, MAX_GROUP_SIZE) ?? -1;
  // Rules by module: bits and groups are then read from the shapes, zeros from the files.
  const isUniform = !config.has(`${prefix}.dynamic`);
  const quantizers = config.has(`${prefix}.meta.quantizer`)
    ? (config.strings(`${prefix}.meta.quantizer`) ?? [])
    : [];
  return {
    bits: isUniform ? bits : null,
    groupSize: isUniform ? Math.max(groupSize, 0) : null,
    isSymmetric: isUniform && (config.boolean(`${prefix}.sym`) ?? false),
    isActOrder: (config.boolean(`${prefix}.desc_act`) ?? false) || !isUniform,
    hasZerosLessOne: format === 'gptq',
    isByGptqModel: quantizers.some((name) => name.startsWith('gptqmodel')),
  };
}

function findGptq(
  settings: GptqSettings,
  tensors: ModuleTensors,
  shape: readonly [number, number],
): QuantizedWeight | null {
  const codes = tensors.get('qweight');
  if (codes === null) return null;
  const [rows, columns] = shape;
  const bits = settings.bits ?? bitsOf(tensors, codes, columns);
  tensors.requireType(codes, ['I32']);
  tensors.requireShape(codes, [(columns * bits) / 32, rows]);
  const scales = tensors.require('scales');
  const groupColumns = groupSizeOf(settings, tensors, scales, columns);
  const numGroups = Math.ceil(columns / groupColumns);
  const groupIndex = tensors.get('g_idx');
  const zeros = tensors.get('qzeros');
  const hasOrderedGroups = !settings.isActOrder || groupIndex === null || numGroups === 1;
  const hasUsableZeros = bits !== 3 || !settings.hasZerosLessOne;
  if (!settings.isSymmetric) {
    if (zeros === null) tensors.require('qzeros');
    else if (!hasUsableZeros && settings.isByGptqModel) {
      throw tensors.unsupported(zeros, 'asymmetric 3-bit zeros of version 1, written by GPTQModel', [
        'checkpoint_format gptq_v2',
      ]);
    }
  }
  const readsZeros = zeros !== null && (hasUsableZeros || !settings.isSymmetric);
  return {
    format: FORMATS.get(bits) ?? 'gptq_4',
    codes,
    quantization: {
      storedRows: rows,
      firstRow: 0,
      groupRows: 1,
      groupColumns,
      isSymmetric: settings.isSymmetric,
      hasOrderedGroups,
      hasZerosLessOne: settings.hasZerosLessOne,
      scales: tensors.component(scales, SCALE_TYPES, [numGroups, rows]),
      zeros: readsZeros
        ? tensors.component(zeros, ['I32'], [numGroups, Math.ceil((rows * bits) / 32)])
        : null,
      groupIndex: groupIndex === null ? null : tensors.component(groupIndex, ['I32'], [1, columns]),
    },
  };
}

function bitsOf(tensors: ModuleTensors, codes: StoredTensor, columns: number): number {
  const bits = ((codes.shape[0] ?? 0) * 32) / columns;
  if (FORMATS.has(bits)) return bits;
  throw tensors.fault(
    codes,
    `2, 3, 4 or 8 bits for each of ${columns} inputs`,
    `shape [${codes.shape.join(', ')}]`,
  );
}

function groupSizeOf(
  settings: GptqSettings,
  tensors: ModuleTensors,
  scales: StoredTensor,
  columns: number,
): number {
  if (settings.groupSize !== null) return settings.groupSize === 0 ? columns : settings.groupSize;
  const numGroups = scales.shape[0] ?? 0;
  if (numGroups > 0 && columns % numGroups === 0) return columns / numGroups;
  throw tensors.fault(scales, `groups that divide ${columns} inputs`, `shape [${scales.shape.join(', ')}]`);
}
