import { isUtf8 } from 'node:buffer';
import type { ByteSource } from '../byte-source';
import type { StoredTensor } from '../checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import { MAX_DIMS, MAX_TENSOR_NAME_BYTES } from './limits';
import { GGUF_TENSOR_TYPES, type GgufTensorType } from './tensor-types';
import type { ValueReader } from './values';

/** A tensor with its place in this file. */
export type GgufTensor = Omit<StoredTensor, 'file'>;

interface TensorEntry {
  readonly name: string;
  readonly type: GgufTensorType;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/**
 * Reads the tensor list and places the tensors. The stated offsets must equal the running sum of the padded sizes, so
 * that no byte of the data is unclaimed or claimed twice; the last tensor must end with the file, padding aside.
 */
export async function readTensors(
  source: ByteSource,
  reader: ValueReader,
  numTensors: number,
  alignment: number,
): Promise<{ readonly tensors: ReadonlyMap<string, GgufTensor>; readonly dataOffset: number }> {
  const entries: TensorEntry[] = [];
  const names = new Set<string>();
  let dataSize = 0;
  let lastPadding = 0;
  for (let i = 0; i < numTensors; i += 1) {
    const entry = await readEntry(reader, source.size, i, names);
    await reader.cursor.need(8, `offset of tensor ${quoted(entry.name)}`);
    const at = reader.cursor.offset;
    const offset = reader.cursor.takeU64();
    if (offset !== BigInt(dataSize))
      throw misplaced(source.path, entry.name, at, dataSize, offset, alignment);
    entries.push(entry);
    const padded = padTo(entry.byteLength, alignment);
    lastPadding = padded - entry.byteLength;
    dataSize += padded;
  }
  const dataOffset = padTo(reader.cursor.offset, alignment);
  const max = dataOffset + dataSize;
  requireFileSize(source, numTensors === 0 ? reader.cursor.offset : max - lastPadding, max);
  return { tensors: placed(entries, dataOffset, alignment), dataOffset };
}

function placed(entries: readonly TensorEntry[], dataOffset: number, alignment: number) {
  const tensors = new Map<string, GgufTensor>();
  let offset = dataOffset;
  for (const { name, type, shape, byteLength } of entries) {
    tensors.set(name, { name, typeName: type.name, format: type.format, shape, offset, byteLength });
    offset += padTo(byteLength, alignment);
  }
  return tensors;
}

async function readEntry(
  reader: ValueReader,
  fileSize: number,
  index: number,
  names: Set<string>,
): Promise<TensorEntry> {
  const name = await readName(reader, index, names);
  const where = `tensor ${quoted(name)}`;
  const dims = await readDims(reader, where);
  await reader.cursor.need(4, `type of ${where}`);
  const typeId = reader.cursor.takeU32();
  const type = GGUF_TENSOR_TYPES.get(typeId);
  if (type === undefined) {
    const known = [...GGUF_TENSOR_TYPES.values()].filter(({ format }) => format !== null);
    throw unsupportedModel(
      reader.file,
      `${where} of type number ${typeId}`,
      known.map(({ name: typeName }) => typeName),
    );
  }
  return {
    name,
    type,
    shape: dims.toReversed(),
    byteLength: byteLengthOf(reader, where, dims, type, fileSize),
  };
}

async function readName(reader: ValueReader, index: number, names: Set<string>): Promise<string> {
  const offset = reader.cursor.offset;
  const where = `name of tensor ${index}`;
  const bytes = await reader.bytes(MAX_TENSOR_NAME_BYTES, where);
  const fault = (expected: string, found: string) =>
    invalidModelFile({ file: reader.file, where, offset, expected, found });
  if (bytes.length === 0) throw fault('a name', 'an empty string');
  if (!isUtf8(bytes)) throw fault('UTF-8 text', 'bytes that are not');
  const name = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  if (names.has(name)) throw fault('each tensor once', `${quoted(name)} a second time`);
  names.add(name);
  return name;
}

async function readDims(reader: ValueReader, where: string): Promise<number[]> {
  await reader.cursor.need(4, `dims of ${where}`);
  const offset = reader.cursor.offset;
  const numDims = reader.cursor.takeU32();
  if (numDims < 1 || numDims > MAX_DIMS) {
    throw invalidModelFile({
      file: reader.file,
      where,
      offset,
      expected: `1..${MAX_DIMS} dims`,
      found: String(numDims),
    });
  }
  const dims: number[] = [];
  for (let i = 0; i < numDims; i += 1) {
    const dimOffset = reader.cursor.offset;
    const dim = await reader.count(Number.MAX_SAFE_INTEGER, `dim ${i} of ${where}`);
    if (dim === 0) {
      throw invalidModelFile({
        file: reader.file,
        where,
        offset: dimOffset,
        expected: `dim ${i} > 0`,
        found: '0',
      });
    }
    dims.push(dim);
  }
  return dims;
}

/** Bytes the tensor takes, compared with the file's size while the product is formed, so that it stays exact. */
function byteLengthOf(
  reader: ValueReader,
  where: string,
  dims: readonly number[],
  type: GgufTensorType,
  fileSize: number,
): number {
  const [first = 1] = dims;
  const { offset } = reader.cursor;
  if (first % type.elementsPerBlock !== 0) {
    throw invalidModelFile({
      file: reader.file,
      where,
      offset,
      expected: `a row length that is a multiple of ${type.elementsPerBlock}, the block of ${type.name}`,
      found: String(first),
    });
  }
  let byteLength = BigInt(first / type.elementsPerBlock) * BigInt(type.bytesPerBlock);
  for (const dim of dims.slice(1)) byteLength *= BigInt(dim);
  if (byteLength > BigInt(fileSize)) {
    throw invalidModelFile({
      file: reader.file,
      where,
      offset,
      expected: `at most the ${fileSize} bytes of the file`,
      found: `dims ${dims.join(' x ')} of ${type.name}, ${byteLength} bytes`,
      hint: 'The file is cut short or damaged; fetch it again.',
    });
  }
  return Number(byteLength);
}

function misplaced(
  file: string,
  name: string,
  at: number,
  expected: number,
  found: bigint,
  alignment: number,
): Error {
  const isUnaligned = found % BigInt(alignment) !== 0n;
  return invalidModelFile({
    file,
    where: `tensor ${quoted(name)}`,
    offset: at,
    expected: `data offset ${expected}, right behind the tensor before it`,
    found: `${found}${isUnaligned ? `, which is no multiple of the alignment ${alignment}` : ''}`,
  });
}

/** Writers may leave out the padding at the end. */
function requireFileSize(source: ByteSource, min: number, max: number): void {
  if (source.size >= min && source.size <= max) return;
  throw invalidModelFile({
    file: source.path,
    where: 'file size',
    expected: min === max ? `${max} bytes` : `${min}..${max} bytes`,
    found: `${source.size} bytes`,
    hint:
      source.size < min
        ? 'The file is cut short; fetch it again.'
        : 'Something was appended to the file; fetch it again.',
  });
}

function padTo(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
