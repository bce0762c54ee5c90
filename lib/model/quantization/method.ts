import type { StoredFormat } from '../../native/abi';
import type { Quantization } from '../../native/decoder-spec';
import type { StoredTensor } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import { quoted, unsupportedModel } from '../model-file-error';
import { awqMethod } from './awq';
import { compressedTensorsMethod } from './compressed-tensors';
import { float8Method } from './float8';
import { gptqMethod } from './gptq';
import type { ModuleTensors } from './module-tensors';

/** One matrix whose codes, scales and zeros are tensors of their own. */
export interface QuantizedWeight {
  readonly format: StoredFormat;
  readonly codes: StoredTensor;
  /** Of the whole matrix. */
  readonly quantization: Quantization;
}

/** How a checkpoint stores the matrices it quantized. */
export interface QuantizationMethod {
  /** The quantized weight of a module, or null when the module has none. Shape: [out, in]. */
  find(tensors: ModuleTensors, shape: readonly [number, number]): QuantizedWeight | null;
}

const METHODS: Readonly<Record<string, (config: ConfigReader, prefix: string) => QuantizationMethod>> = {
  gptq: gptqMethod,
  awq: awqMethod,
  'compressed-tensors': compressedTensorsMethod,
  fp8: float8Method,
  fbgemm_fp8: float8Method,
};

/** Older writers of compressed-tensors used the second. */
const KEYS = ['quantization_config', 'compression_config'];

/** The method that a config.json names, or null. Unknown ones and unknown variants are `unsupported_model`. */
export function readQuantization(config: ConfigReader): QuantizationMethod | null {
  const prefix = KEYS.find((key) => config.has(key));
  if (prefix === undefined) return null;
  const name = config.string(`${prefix}.quant_method`);
  if (name === null) throw config.fault(`${prefix}.quant_method`, 'the name of a method', 'nothing');
  const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
  if (method !== undefined) return method(config, prefix);
  throw unsupportedModel(
    config.file,
    `quantization method ${quoted(name)}`,
    [...Object.keys(METHODS), 'GGUF files'],
    'Use the unquantized checkpoint, or one quantized by a supported method.',
  );
}
