/** Writes GGUF files piece by piece, also ones that break the rules. */

export const u8 = (value: number): Buffer => Buffer.from([value]);
export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
export const f32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
export const text = (value: string | Uint8Array): Buffer => {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([u64(bytes.length), bytes]);
};

/** Value types by the number in the file. */
export const Type = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

export const key = (name: string | Uint8Array, type: number, value: Uint8Array): Buffer =>
  Buffer.concat([text(name), u32(type), value]);
export const stringKey = (name: string, value: string | Uint8Array): Buffer =>
  key(name, Type.string, text(value));
export const integerKey = (name: string, value: number): Buffer => key(name, Type.u32, u32(value));
export const arrayKey = (name: string, type: number, length: number | bigint, elements: Uint8Array): Buffer =>
  key(name, Type.array, Buffer.concat([u32(type), u64(length), elements]));

export interface TensorOptions {
  readonly name: string | Uint8Array;
  /** Fastest first, as in the file. */
  readonly dims: readonly (number | bigint)[];
  readonly type: number;
  readonly offset: number | bigint;
}
export const tensor = ({ name, dims, type, offset }: TensorOptions): Buffer =>
  Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]);

export interface FileOptions {
  readonly magic?: string;
  readonly version?: number;
  readonly numTensors?: number | bigint;
  readonly numKeys?: number | bigint;
  readonly keys?: readonly Uint8Array[];
  readonly tensors?: readonly Uint8Array[];
  readonly alignment?: number;
  /** Bytes of tensor data, padding included. */
  readonly dataSize?: number;
}

export function ggufFile(options: FileOptions): Buffer {
  const { keys = [], tensors = [], alignment = 32, dataSize = 0 } = options;
  const header = Buffer.concat([
    Buffer.from(options.magic ?? 'GGUF', 'latin1'),
    u32(options.version ?? 3),
    u64(options.numTensors ?? tensors.length),
    u64(options.numKeys ?? keys.length),
    ...keys,
    ...tensors,
  ]);
  if (tensors.length === 0) return header;
  const padding = (alignment - (header.length % alignment)) % alignment;
  return Buffer.concat([header, Buffer.alloc(padding + dataSize)]);
}

/** Two tensors of F32, 8 and 4 numbers: 32 + 16 bytes of data, 16 of padding. */
export const SOUND: FileOptions = {
  keys: [stringKey('general.architecture', 'llama'), integerKey('llama.block_count', 1)],
  tensors: [
    tensor({ name: 'first', dims: [4, 2], type: 0, offset: 0 }),
    tensor({ name: 'second', dims: [4], type: 0, offset: 32 }),
  ],
  dataSize: 64,
};
