import { AutoglmError } from '../../../errors';

const DISK_FULL = new Set(['ENOSPC', 'EDQUOT']);
const NOT_WRITABLE = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EMFILE', 'ENFILE', 'EIO', 'EFBIG']);

/**
 * A failure of this machine's disk, as a typed error; anything else comes back as it was. Such a failure meets every
 * source alike, so it ends the search for one.
 */
export function describeDiskFault(error: unknown, path: string): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code ?? '';
  if (DISK_FULL.has(code)) return diskFull(path, {}, error);
  if (!NOT_WRITABLE.has(code)) return error;
  return new AutoglmError('download_failed', `${path}: cannot be written (${code})`, {
    hint: 'Check the permissions, or set OPEN_AUTOGLM_CACHE and HF_HOME to a folder that can be written.',
    details: { path, found: code, isLocal: true },
    retryable: false,
    cause: error,
  });
}

/** What was already downloaded stays, and the next try goes on from there. */
export function diskFull(
  path: string,
  room: { readonly needed?: number; readonly free?: number },
  cause?: unknown,
): AutoglmError {
  const figures =
    room.needed === undefined ? '' : `: ${room.needed} bytes are needed, ${room.free ?? 0} are free`;
  return new AutoglmError('download_incomplete', `${path}: the disk is full${figures}`, {
    hint: 'Free some space (open-autoglm rm MODEL), or set OPEN_AUTOGLM_CACHE or HF_HOME to a larger disk.',
    details: { path, found: 'ENOSPC', isLocal: true, ...room },
    retryable: false,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** True for errors that no other source can avoid. */
export function isLocalFault(error: unknown): boolean {
  return AutoglmError.is(error) && error.details.isLocal === true;
}
