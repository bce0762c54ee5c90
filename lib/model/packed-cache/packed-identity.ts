import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Abi } from '../../native/abi';
import type { NativeFile, NativeTensor } from '../../native/addon';
import type { DecoderSpec } from '../../native/decoder-spec';

export interface PackedModel {
  readonly spec: DecoderSpec;
  readonly files: readonly NativeFile[];
  readonly tensors: readonly NativeTensor[];
  readonly precision: 'fast' | 'exact';
}

/** Tensors taken into the digest before other work of the thread has its turn: about a millisecond. */
const TENSORS_PER_TURN = 500;

/**
 * SHA-256 of everything that decides the packed bytes, but for the weights themselves: the version of the compute
 * layouts (the same for every instruction set), the precision, the decoder, where and how each tensor is stored, and
 * size and time of each file. Paths are not in it, so that a model may be moved together with its packed weights.
 */
export async function packedIdentity({ spec, files, tensors, precision }: PackedModel): Promise<Buffer> {
  const hash = createHash('sha256');
  const sizes = files.map(({ size, mtimeMs }) => [size, mtimeMs]);
  hash.update(JSON.stringify([Abi.packedLayoutVersion, precision, sizes, spec], withoutArrays));
  for (const [i, tensor] of tensors.entries()) {
    if (i % TENSORS_PER_TURN === TENSORS_PER_TURN - 1) await nextTurn();
    hash.update(JSON.stringify(tensor, withoutArrays));
  }
  return hash.digest();
}

/** A typed array's bytes as their own digest: as text they would be long. */
function withoutArrays(_key: string, value: unknown): unknown {
  if (!ArrayBuffer.isView(value)) return value;
  const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return createHash('sha256').update(bytes).digest('hex');
}
