import { createHash } from 'node:crypto';
import { AutoglmError } from '../../errors';

// The head of a file of packed weights; docs/formats.md shows it byte by byte. Numbers are little-endian.

const MAGIC = 'OAGLMPK\n';
/** Changes with this layout of the header. */
export const PACKED_FORMAT_VERSION = 1;
/** The weights behind the header begin at a multiple of this: no system has larger pages, so they can be mapped. */
const ALIGNMENT = 64 * 1024;
/** Sections are checked one by one on all threads; the header stays small even for the largest models. */
export const SECTION_BYTES = 4 << 20;
/** Enough for the checksums of 16 TiB. */
const MAX_HEADER_BYTES = 64 << 20;
const DIGEST_BYTES = 32;
const SAMPLE_BYTES = 8;
const FIXED_BYTES = 8 + 4 + 4 + 8 + 8 + 4 + DIGEST_BYTES + SAMPLE_BYTES;
/** What must be read to know how long the header is. */
export const PREFIX_BYTES = 16;

/** What a person wants to know of such a file. Nothing is decided by it. */
export interface PackedDescription {
  readonly model: string;
  readonly precision: 'fast' | 'exact';
}

export interface PackedHeader {
  /** SHA-256 of all that decides the bytes: settings, layout, tensors, files; packed-identity.ts. */
  readonly identity: Buffer;
  /** WeightsOrigin.sample, 16 hexadecimal digits. */
  readonly sample: string;
  readonly description: PackedDescription;
  readonly byteLength: number;
  readonly sectionBytes: number;
  /** Two words for each section. */
  readonly checksums: Int32Array;
}

/** A header as it was found in a file. */
export interface StoredHeader extends PackedHeader {
  /** Where the weights begin. */
  readonly offset: number;
}

const numSections = (byteLength: number, sectionBytes: number): number =>
  Math.ceil(byteLength / sectionBytes);

/** Bytes of the header of such a file, padding included: where the weights begin. */
export function headerBytesFor(byteLength: number, description: PackedDescription): number {
  const checksumBytes = numSections(byteLength, SECTION_BYTES) * 8;
  const textBytes = Buffer.byteLength(JSON.stringify(description));
  return Math.ceil((FIXED_BYTES + textBytes + checksumBytes + DIGEST_BYTES) / ALIGNMENT) * ALIGNMENT;
}

export function encodeHeader(header: PackedHeader): Buffer {
  const { identity, sample, description, byteLength, sectionBytes, checksums } = header;
  const bytes = Buffer.alloc(headerBytesFor(byteLength, description));
  const text = Buffer.from(JSON.stringify(description));
  let at = bytes.write(MAGIC, 'latin1');
  at = bytes.writeUInt32LE(PACKED_FORMAT_VERSION, at);
  at = bytes.writeUInt32LE(bytes.length, at);
  at = bytes.writeBigUInt64LE(BigInt(byteLength), at);
  at = bytes.writeBigUInt64LE(BigInt(sectionBytes), at);
  at = bytes.writeUInt32LE(text.length, at);
  at += identity.copy(bytes, at);
  at += bytes.write(sample, at, 'hex');
  at += text.copy(bytes, at);
  for (const word of checksums) at = bytes.writeInt32LE(word, at);
  createHash('sha256')
    .update(bytes.subarray(0, -DIGEST_BYTES))
    .digest()
    .copy(bytes, bytes.length - DIGEST_BYTES);
  return bytes;
}

/** The length of the header that begins with these bytes. Throws `invalid_model_file` naming `path`. */
export function readHeaderLength(path: string, prefix: Buffer): number {
  if (prefix.length < PREFIX_BYTES || prefix.toString('latin1', 0, 8) !== MAGIC) {
    throw refusal(path, 'is not a file of packed weights');
  }
  const version = prefix.readUInt32LE(8);
  if (version !== PACKED_FORMAT_VERSION) {
    throw refusal(path, `has format version ${version}, this package reads ${PACKED_FORMAT_VERSION}`);
  }
  const length = prefix.readUInt32LE(12);
  if (length < ALIGNMENT || length % ALIGNMENT !== 0 || length > MAX_HEADER_BYTES) {
    throw refusal(path, `has a header of ${length} bytes, expected a multiple of ${ALIGNMENT}`);
  }
  return length;
}

/** Reads a whole header. Throws `invalid_model_file` naming `path`. */
export function decodeHeader(path: string, bytes: Buffer, fileSize: number): StoredHeader {
  if (bytes.length !== readHeaderLength(path, bytes)) throw refusal(path, 'ends within its header');
  const digest = createHash('sha256').update(bytes.subarray(0, -DIGEST_BYTES)).digest();
  if (!digest.equals(bytes.subarray(-DIGEST_BYTES))) throw refusal(path, 'has a damaged header');
  const byteLength = Number(bytes.readBigUInt64LE(16));
  const sectionBytes = Number(bytes.readBigUInt64LE(24));
  const textBytes = bytes.readUInt32LE(32);
  const expected = bytes.length + byteLength;
  if (fileSize !== expected) throw refusal(path, `has ${fileSize} bytes, expected ${expected}`);
  const count = sectionBytes < 1 ? Number.NaN : numSections(byteLength, sectionBytes);
  const checksumsAt = FIXED_BYTES + textBytes;
  if (!(checksumsAt + count * 8 + DIGEST_BYTES <= bytes.length)) {
    throw refusal(path, `has no room for the checksums of ${byteLength} bytes`);
  }
  return {
    identity: Buffer.from(bytes.subarray(36, 36 + DIGEST_BYTES)),
    sample: bytes.toString('hex', 36 + DIGEST_BYTES, FIXED_BYTES),
    description: readDescription(path, bytes.toString('utf8', FIXED_BYTES, checksumsAt)),
    offset: bytes.length,
    byteLength,
    sectionBytes,
    checksums: Int32Array.from({ length: count * 2 }, (_, i) => bytes.readInt32LE(checksumsAt + 4 * i)),
  };
}

function readDescription(path: string, text: string): PackedDescription {
  try {
    const { model, precision } = JSON.parse(text) as PackedDescription;
    return { model: String(model), precision: precision === 'exact' ? 'exact' : 'fast' };
  } catch (cause) {
    throw refusal(path, 'does not say which model it is of', cause);
  }
}

export function refusal(path: string, what: string, cause?: unknown): AutoglmError {
  return new AutoglmError('invalid_model_file', `${path} ${what}`, {
    details: { file: path },
    ...(cause === undefined ? {} : { cause }),
  });
}
