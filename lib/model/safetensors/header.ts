import { isUtf8 } from 'node:buffer';
import type { StoredFormat } from '../../native/abi';
import type { ByteSource } from '../byte-source';
import type { StoredTensor } from '../checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import { type HeaderEntry, scanHeader } from './header-scanner';

export type SafetensorsTensor = Omit<StoredTensor, 'file'>;

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  readonly metadata: ReadonlyMap<string, string>;
  /** First byte of the tensor data. */
  readonly dataOffset: number;
}

export interface SafetensorsLimits {
  readonly maxHeaderBytes: number;
  readonly maxTensors: number;
}

/** The format's own cap on the header; mixtures of experts reach some 90,000 tensors over all shards. */
export const SAFETENSORS_LIMITS: SafetensorsLimits = { maxHeaderBytes: 100_000_000, maxTensors: 262_144 };

const LENGTH_BYTES = 8;

/** Bits per element of each dtype, and the stored format for those that can be computed with. */
const DTYPES: ReadonlyMap<string, readonly [number, StoredFormat | null]> = new Map<
  string,
  readonly [number, StoredFormat | null]
>([
  ['BOOL', [8, null]],
  ['F4', [4, null]],
  ['F6_E2M3', [6, null]],
  ['F6_E3M2', [6, null]],
  ['U8', [8, null]],
  ['I8', [8, null]],
  ['F8_E5M2', [8, null]],
  ['F8_E4M3', [8, null]],
  ['F8_E8M0', [8, null]],
  ['F8_E4M3FNUZ', [8, null]],
  ['F8_E5M2FNUZ', [8, null]],
  ['I16', [16, null]],
  ['U16', [16, null]],
  ['F16', [16, 'f16']],
  ['BF16', [16, 'bf16']],
  ['I32', [32, null]],
  ['U32', [32, null]],
  ['F32', [32, 'f32']],
  ['C64', [64, null]],
  ['F64', [64, 'f64']],
  ['I64', [64, null]],
  ['U64', [64, null]],
]);

/**
 * Reads and checks the header of a safetensors file: the tensors, sorted by offset, tile the rest of the file exactly.
 * Source: huggingface/safetensors README, "Format".
 */
export async function parseSafetensors(
  source: ByteSource,
  limits: SafetensorsLimits = SAFETENSORS_LIMITS,
): Promise<SafetensorsHeader> {
  const length = await readLength(source, limits);
  const bytes = new Uint8Array(length);
  await source.readInto(bytes, LENGTH_BYTES);
  if (!isUtf8(bytes)) {
    throw invalidModelFile({
      file: source.path,
      where: 'header',
      offset: LENGTH_BYTES,
      expected: 'UTF-8 text',
      found: 'bytes that are not',
    });
  }
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  const { entries, metadata } = scanHeader(source.path, text, limits.maxTensors);
  const dataOffset = LENGTH_BYTES + length;
  return { tensors: place(source, entries, dataOffset), metadata, dataOffset };
}

async function readLength(source: ByteSource, limits: SafetensorsLimits): Promise<number> {
  const fault = (expected: string, found: string) =>
    invalidModelFile({
      file: source.path,
      where: 'header length',
      offset: 0,
      expected,
      found,
      hint: 'The file is no safetensors file, or it is cut short; fetch it again.',
    });
  if (source.size < LENGTH_BYTES + 2) {
    throw fault(`a safetensors file of at least ${LENGTH_BYTES + 2} bytes`, `${source.size} bytes`);
  }
  const bytes = new Uint8Array(LENGTH_BYTES);
  await source.readInto(bytes, 0);
  const length = new DataView(bytes.buffer).getBigUint64(0, true);
  const max = Math.min(limits.maxHeaderBytes, source.size - LENGTH_BYTES);
  if (length < 2n || length > BigInt(max)) throw fault(`2..${max} bytes`, String(length));
  return Number(length);
}

function place(
  source: ByteSource,
  entries: readonly HeaderEntry[],
  dataOffset: number,
): ReadonlyMap<string, SafetensorsTensor> {
  const dataSize = source.size - dataOffset;
  let end = 0;
  for (const entry of entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin !== end || entry.end < entry.begin) {
      throw invalidModelFile({
        file: source.path,
        where: `tensor ${quoted(entry.name)}`,
        expected: `data_offsets that start at ${end}, right behind the tensor before it`,
        found: `[${entry.begin}, ${entry.end}]`,
      });
    }
    end = entry.end;
  }
  if (end !== dataSize) {
    throw invalidModelFile({
      file: source.path,
      where: 'file size',
      expected: `${dataOffset + end} bytes`,
      found: `${source.size} bytes`,
      hint: 'The file is cut short or something was appended; fetch it again.',
    });
  }
  // In the header's order, which is the order the writer meant.
  const tensors = new Map<string, SafetensorsTensor>();
  for (const entry of entries) tensors.set(entry.name, placedTensor(source.path, entry, dataOffset));
  return tensors;
}

function placedTensor(file: string, entry: HeaderEntry, dataOffset: number): SafetensorsTensor {
  const { name, dtype, shape, begin, end } = entry;
  const known = DTYPES.get(dtype);
  if (known === undefined) {
    throw unsupportedModel(file, `tensor ${quoted(name)} of dtype ${quoted(dtype)}`, [
      'F64',
      'F32',
      'F16',
      'BF16',
    ]);
  }
  const [bits, format] = known;
  let numBits = BigInt(bits);
  for (const dim of shape) numBits *= BigInt(dim);
  if (numBits % 8n !== 0n || numBits / 8n !== BigInt(end - begin)) {
    throw invalidModelFile({
      file,
      where: `tensor ${quoted(name)}`,
      expected: `${numBits % 8n === 0n ? numBits / 8n : `${numBits} / 8`} bytes for ${dtype} [${shape.join(', ')}]`,
      found: `data_offsets [${begin}, ${end}], ${end - begin} bytes`,
    });
  }
  return { name, typeName: dtype, format, shape, offset: dataOffset + begin, byteLength: end - begin };
}
