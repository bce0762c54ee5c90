import { isAscii, isUtf8 } from 'node:buffer';
import type { ByteSource } from '../byte-source';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import { HeaderCursor } from './cursor';
import { GGUF_LIMITS, type GgufLimits } from './limits';
import { GgufMetadata, type GgufValue } from './metadata';
import { type GgufTensor, readTensors } from './tensors';
import { ValueReader } from './values';

export interface GgufHeader {
  readonly version: 2 | 3;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  readonly alignment: number;
  /** First byte of the tensor data. */
  readonly dataOffset: number;
}

const DEFAULT_ALIGNMENT = 32;

/**
 * Reads and checks the header of a GGUF file, version 2 or 3, little-endian. Tensor data is not read, but its place is
 * checked: the tensors tile the rest of the file.
 * Source: ggml docs/gguf.md.
 */
export async function parseGguf(source: ByteSource, limits: GgufLimits = GGUF_LIMITS): Promise<GgufHeader> {
  const cursor = new HeaderCursor(source, limits.maxHeaderBytes);
  const reader = new ValueReader(source.path, cursor, limits);
  const version = await readVersion(source, cursor);
  const numTensors = await reader.count(limits.maxTensors, 'tensor count');
  const numKeys = await reader.count(limits.maxKeys, 'key count');
  const values = new Map<string, GgufValue>();
  for (let i = 0; i < numKeys; i += 1) {
    const key = await readKey(reader, i, values);
    values.set(key, await reader.value(key));
  }
  const metadata = new GgufMetadata(source.path, values);
  const alignment = readAlignment(metadata, limits);
  const { tensors, dataOffset } = await readTensors(source, reader, numTensors, alignment);
  return { version, metadata, tensors, alignment, dataOffset };
}

async function readVersion(source: ByteSource, cursor: HeaderCursor): Promise<2 | 3> {
  const notGguf = (found: string) =>
    invalidModelFile({
      file: source.path,
      where: 'file type',
      offset: 0,
      expected: 'a GGUF v2/v3 file, which starts with "GGUF"',
      found,
    });
  if (source.size < 4) throw notGguf(source.size === 0 ? 'an empty file' : `${source.size} bytes`);
  await cursor.need(4, 'magic');
  const magic = new TextDecoder('latin1').decode(cursor.takeBuffered(4));
  if (magic !== 'GGUF') throw notGguf(`${quoted(magic)}${knownMagic(magic)}`);
  await cursor.need(4, 'version');
  const version = cursor.takeU32();
  if (version === 2 || version === 3) return version;
  const hint = 'Convert the model again with a current converter.';
  // A small version read with the wrong byte order has its low half zero.
  if (version !== 0 && (version & 0xffff) === 0) {
    throw unsupportedModel(source.path, 'big-endian GGUF', ['little-endian GGUF v2, v3'], hint);
  }
  throw unsupportedModel(source.path, `GGUF version ${version}`, ['GGUF v2, v3'], hint);
}

function knownMagic(magic: string): string {
  if (magic.startsWith('PK')) return ', a ZIP or PyTorch archive';
  if (['ggml', 'ggjt', 'ggmf', 'lmgg', 'tjgg', 'fmgg'].includes(magic)) return ', an old GGML file';
  if (magic.startsWith('<') || magic.startsWith('{')) return ', which looks like a web page or JSON';
  if (magic === 'vers') return ', which looks like a Git LFS pointer';
  return '';
}

async function readKey(
  reader: ValueReader,
  index: number,
  known: ReadonlyMap<string, GgufValue>,
): Promise<string> {
  const offset = reader.cursor.offset;
  const bytes = await reader.bytes(reader.limits.maxKeyBytes, `name of key ${index}`);
  const fault = (expected: string, found: string) =>
    invalidModelFile({ file: reader.file, where: `name of key ${index}`, offset, expected, found });
  if (bytes.length === 0) throw fault('a name', 'an empty string');
  if (!isAscii(bytes))
    throw fault('ASCII text', isUtf8(bytes) ? 'other characters' : 'bytes that are not text');
  const key = new TextDecoder('latin1').decode(bytes);
  if (known.has(key)) throw fault('each key once', `${quoted(key)} a second time`);
  return key;
}

function readAlignment(metadata: GgufMetadata, limits: GgufLimits): number {
  const key = 'general.alignment';
  const alignment = metadata.integer(key, 1, limits.maxAlignment) ?? DEFAULT_ALIGNMENT;
  if ((alignment & (alignment - 1)) !== 0) throw metadata.fault(key, 'a power of two', String(alignment));
  return alignment;
}
