import { AutoglmError } from '../../../errors';

const DISK_FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);

/**
 * A failed call of the file system, as a typed error; anything else comes back as it was. Such a failure meets every
 * source alike, so it ends the search for one. `where` stands in for calls on open files, whose errors name none.
 */
export function describeDiskFault(error: unknown, where: string): unknown {
  const { code, path, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (AutoglmError.is(error) || syscall === undefined || code === undefined) return error;
  if (syscall.startsWith('spawn')) return error;
  const place = path ?? where;
  if (DISK_FULL.has(code)) return diskFull(place, {}, error);
  return new AutoglmError('download_failed', `${place}: cannot be written (${syscall}: ${code})`, {
    hint: 'Check the permissions, or set OPEN_AUTOGLM_CACHE and HF_HOME to a folder that can be written.',
    details: { path: place, found: code, isLocal: true },
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
