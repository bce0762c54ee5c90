import type { StoredFormat } from '../../lib/native/abi';

/**
 * Float64 values of stored blocks, straight from the format's definition: an oracle, never used by the library.
 * Source: the block layouts of ggml's formats (docs/formats.md lists them byte by byte).
 */
export function dequantize(format: StoredFormat, bytes: Uint8Array, numElements: number): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Float64Array(numElements);
  const decode = DECODERS[format];
  if (decode === undefined) throw new Error(`no family fixture has ${format} tensors`);
  const { elements, size } = decode;
  for (let block = 0; block < numElements / elements; block += 1) {
    decode.block(view, block * size, values.subarray(block * elements, (block + 1) * elements));
  }
  return values;
}

interface BlockDecoder {
  readonly elements: number;
  readonly size: number;
  readonly block: (view: DataView, at: number, out: Float64Array) => void;
}

const nibble = (view: DataView, at: number, isHigh: boolean): number =>
  isHigh ? view.getUint8(at) >> 4 : view.getUint8(at) & 15;

function half(view: DataView, at: number): number {
  const bits = view.getUint16(at, true);
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function bfloat(view: DataView, at: number): number {
  const word = new DataView(new ArrayBuffer(4));
  word.setUint32(0, view.getUint16(at, true) << 16);
  return word.getFloat32(0);
}

/** Two 6-bit numbers, scale and minimum, of group `b` of a Q4_K block. */
function scaleAndMin(view: DataView, at: number, b: number): readonly [number, number] {
  const byte = (i: number): number => view.getUint8(at + i);
  if (b < 4) return [byte(b) & 63, byte(b + 4) & 63];
  return [(byte(b + 4) & 15) | ((byte(b - 4) >> 6) << 4), (byte(b + 4) >> 4) | ((byte(b) >> 6) << 4)];
}

function single(size: number, read: (view: DataView, at: number) => number): BlockDecoder {
  return {
    elements: 1,
    size,
    block(view, at, out) {
      out[0] = read(view, at);
    },
  };
}

const DECODERS: Readonly<Partial<Record<StoredFormat, BlockDecoder>>> = {
  f32: single(4, (view, at) => view.getFloat32(at, true)),
  f16: single(2, (view, at) => half(view, at)),
  bf16: single(2, (view, at) => bfloat(view, at)),
  q8_0: {
    elements: 32,
    size: 34,
    block(view, at, out) {
      for (let i = 0; i < 32; i += 1) out[i] = half(view, at) * view.getInt8(at + 2 + i);
    },
  },
  q4_0: {
    elements: 32,
    size: 18,
    block(view, at, out) {
      for (let i = 0; i < 32; i += 1) {
        out[i] = half(view, at) * (nibble(view, at + 2 + (i % 16), i >= 16) - 8);
      }
    },
  },
  q4_1: {
    elements: 32,
    size: 20,
    block(view, at, out) {
      for (let i = 0; i < 32; i += 1) {
        out[i] = half(view, at) * nibble(view, at + 4 + (i % 16), i >= 16) + half(view, at + 2);
      }
    },
  },
  q4_k: {
    elements: 256,
    size: 144,
    block(view, at, out) {
      for (let i = 0; i < 256; i += 1) {
        const b = i >> 5;
        const [scale, min] = scaleAndMin(view, at + 4, b);
        const q = nibble(view, at + 16 + 32 * (b >> 1) + (i % 32), (b & 1) === 1);
        out[i] = half(view, at) * scale * q - half(view, at + 2) * min;
      }
    },
  },
  q6_k: {
    elements: 256,
    size: 210,
    block(view, at, out) {
      for (let i = 0; i < 256; i += 1) {
        const n = i >> 7;
        const l = i % 32;
        const k = (i % 128) >> 5;
        const low = nibble(view, at + 64 * n + 32 * (k & 1) + l, k >= 2);
        const high = (view.getUint8(at + 128 + 32 * n + l) >> (2 * k)) & 3;
        const scale = view.getInt8(at + 192 + 8 * n + 2 * k + (l >> 4));
        out[i] = half(view, at + 208) * scale * ((low | (high << 4)) - 32);
      }
    },
  },
};
