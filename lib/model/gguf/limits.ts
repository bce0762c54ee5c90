/** What a GGUF header may cost. Every count and length is compared with these, and with the bytes left, before use. */
export interface GgufLimits {
  readonly maxTensors: number;
  readonly maxKeys: number;
  readonly maxKeyBytes: number;
  readonly maxStringBytes: number;
  readonly maxArrayLength: number;
  readonly maxAlignment: number;
  /** Header, keys, values and tensor list together. The largest vocabularies take about 20 MiB. */
  readonly maxHeaderBytes: number;
}

export const GGUF_LIMITS: GgufLimits = {
  maxTensors: 65_536,
  maxKeys: 65_536,
  maxKeyBytes: 65_535,
  maxStringBytes: 64 << 20,
  maxArrayLength: 16 << 20,
  maxAlignment: 1 << 20,
  maxHeaderBytes: 256 << 20,
};

/** GGUF tensor names are shorter than 64 bytes, at most 4 dims. */
export const MAX_TENSOR_NAME_BYTES = 63;
export const MAX_DIMS = 4;
