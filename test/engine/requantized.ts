import { readFileSync } from 'node:fs';

/** Types of GGUF tensors and values: "GGUF" in the ggml repository's docs/gguf.md. */
const Q4_0 = 2;
const Q4_1 = 3;
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const STRING = 8;
const ARRAY = 9;
const ALIGNMENT = 32;
const BLOCK = 32;
const Q4_1_BYTES = 20;
const Q4_0_BYTES = 18;

interface TensorPlace {
  /** Where the header names its type and, behind it, its offset. */
  readonly at: number;
  readonly type: number;
  readonly offset: number;
  readonly numElements: number;
}

/**
 * A GGUF file with its Q4_1 tensors rounded to Q4_0, all else as it is: a poorer twin of the model, of the same vocabulary,
 * as a draft model is.
 */
export function requantized(path: string): Buffer {
  const file = readFileSync(path);
  const { tensors, dataStart } = readHeader(file);
  const ordered = [...tensors].sort((a, b) => a.offset - b.offset);
  const header = Buffer.from(file.subarray(0, dataStart));
  const parts: Buffer[] = [header];
  let offset = 0;
  ordered.forEach((tensor, i) => {
    const end = ordered[i + 1]?.offset ?? file.length - dataStart;
    const stored = file.subarray(dataStart + tensor.offset, dataStart + end);
    const data = tensor.type === Q4_1 ? roundToQ4_0(stored, tensor.numElements) : stored;
    header.writeUInt32LE(tensor.type === Q4_1 ? Q4_0 : tensor.type, tensor.at);
    header.writeBigUInt64LE(BigInt(offset), tensor.at + 4);
    const padding = Buffer.alloc((ALIGNMENT - (data.length % ALIGNMENT)) % ALIGNMENT);
    parts.push(data, padding);
    offset += data.length + padding.length;
  });
  return Buffer.concat(parts);
}

function readHeader(file: Buffer): { tensors: TensorPlace[]; dataStart: number } {
  let at = 8; // behind the magic and the version
  const u32 = (): number => {
    at += 4;
    return file.readUInt32LE(at - 4);
  };
  const u64 = (): number => {
    at += 8;
    return Number(file.readBigUInt64LE(at - 8));
  };
  const skipString = (): void => {
    const length = u64();
    at += length;
  };
  const skipValue = (type: number): void => {
    if (type === STRING) skipString();
    else if (type === ARRAY) {
      const elementType = u32();
      for (let left = u64(); left > 0; left -= 1) skipValue(elementType);
    } else at += VALUE_BYTES[type] ?? 0;
  };
  const numTensors = u64();
  for (let left = u64(); left > 0; left -= 1) {
    skipString();
    skipValue(u32());
  }
  const tensors = Array.from({ length: numTensors }, (): TensorPlace => {
    skipString();
    let numElements = 1;
    for (let left = u32(); left > 0; left -= 1) numElements *= u64();
    return { at, type: u32(), offset: u64(), numElements };
  });
  return { tensors, dataStart: Math.ceil(at / ALIGNMENT) * ALIGNMENT };
}

/**
 * Blocks {f16 scale, f16 min, 16 bytes} of d q + m become blocks {f16 scale, 16 bytes} of d (q - 8), the value furthest
 * from zero as q = 0. A block has 16 different values at most, so each is rounded once.
 */
function roundToQ4_0(stored: Uint8Array, numElements: number): Buffer {
  const numBlocks = numElements / BLOCK;
  const rounded = new Uint8Array(numBlocks * Q4_0_BYTES);
  const codes = new Uint8Array(16);
  for (let block = 0; block < numBlocks; block += 1) {
    const from = block * Q4_1_BYTES;
    const to = block * Q4_0_BYTES;
    const scale = FLOATS[u16(stored, from)] as number;
    const min = FLOATS[u16(stored, from + 2)] as number;
    let present = 0;
    for (let i = from + 4; i < from + Q4_1_BYTES; i += 1) {
      const byte = stored[i] as number;
      present |= (1 << (byte & 15)) | (1 << (byte >> 4));
    }
    const low = scale * (31 - Math.clz32(present & -present)) + min;
    const high = scale * (31 - Math.clz32(present)) + min;
    const half = floatToHalf((Math.abs(low) >= Math.abs(high) ? low : high) / -8);
    const inverse = half === 0 ? 0 : 1 / (FLOATS[half] as number);
    for (let q = 0; q < 16; q += 1)
      codes[q] = Math.max(0, Math.min(15, Math.round((scale * q + min) * inverse + 8)));
    rounded[to] = half & 255;
    rounded[to + 1] = half >> 8;
    for (let i = 0; i < 16; i += 1) {
      const byte = stored[from + 4 + i] as number;
      rounded[to + 2 + i] = (codes[byte & 15] as number) | ((codes[byte >> 4] as number) << 4);
    }
  }
  return Buffer.from(rounded.buffer);
}

const u16 = (bytes: Uint8Array, at: number): number =>
  (bytes[at] as number) | ((bytes[at + 1] as number) << 8);

function halfToFloat(half: number): number {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return half & 0x8000 ? -size : size;
}

/** Every half precision number by its bits. */
const FLOATS = Float32Array.from({ length: 1 << 16 }, (_, half) => halfToFloat(half));

function floatToHalf(value: number): number {
  const size = Math.abs(value);
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 2 ** -14)));
  const steps = Math.round(size / 2 ** (exponent - 10)); // carries into the exponent when it rounds up to 2048
  return (value < 0 ? 0x8000 : 0) | (steps + (exponent + 14) * 1024);
}
