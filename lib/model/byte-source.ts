import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { AutoglmError } from '../errors';
import { invalidModelFile } from './model-file-error';

/** Bytes with a known size that are read by position. Parsers take one of these, so that tests can feed them memory. */
export interface ByteSource {
  /** Name for messages. */
  readonly path: string;
  readonly size: number;
  /** Fills `target` from `offset`; fewer bytes than that are `invalid_model_file`. */
  readInto(target: Uint8Array, offset: number): Promise<void>;
}

/** One read call asks for at most this much, so that an abort is noticed between two. */
const MAX_READ_BYTES = 8 << 20;

/** An open regular file. Size and modification time are those of the moment it was opened. */
export class FileSource implements ByteSource {
  readonly #handle: FileHandle;
  readonly #signal: AbortSignal | undefined;

  private constructor(
    readonly path: string,
    readonly size: number,
    readonly mtimeMs: number,
    handle: FileHandle,
    signal: AbortSignal | undefined,
  ) {
    this.#handle = handle;
    this.#signal = signal;
  }

  /** Opens a regular file; anything else (directory, device, pipe, missing) is a typed error. */
  static async open(path: string, signal?: AbortSignal): Promise<FileSource> {
    throwIfAborted(signal);
    let handle: FileHandle;
    try {
      // Non-blocking: opening a pipe must not wait for its writer.
      handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      throw unreadable(path, error);
    }
    try {
      const stats = await handle.stat();
      requireRegularFile(path, stats);
      return new FileSource(path, stats.size, stats.mtimeMs, handle, signal);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async readInto(target: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      throwIfAborted(this.#signal);
      const length = Math.min(target.length - done, MAX_READ_BYTES);
      const { bytesRead } = await this.#read(target, done, length, offset + done);
      if (bytesRead === 0) {
        throw invalidModelFile({
          file: this.path,
          where: 'file size',
          expected: `${this.size} bytes, as when it was opened`,
          found: `${offset + done} bytes`,
          hint: 'The file was cut while it was read; load it again once it is complete.',
        });
      }
      done += bytesRead;
    }
  }

  #read(target: Uint8Array, start: number, length: number, position: number): Promise<{ bytesRead: number }> {
    return this.#handle.read(target, start, length, position).catch((error: unknown) => {
      throw unreadable(this.path, error);
    });
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** File information, or `model_not_found` when there is nothing at `path`. */
export async function statModelPath(path: string): Promise<Stats> {
  try {
    return await stat(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** The whole text of a small file, or null when it does not exist. More than `maxBytes` is `invalid_model_file`. */
export async function readSmallText(
  path: string,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<string | null> {
  const bytes = await readSmallFile(path, maxBytes, signal);
  return bytes === null ? null : decodeUtf8(path, bytes);
}

/** All bytes of a small file, or null when it does not exist. More than `maxBytes` is `invalid_model_file`. */
export async function readSmallFile(
  path: string,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array | null> {
  const stats = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw unreadable(path, error);
  });
  if (stats === null) return null;
  const source = await FileSource.open(path, signal);
  try {
    if (source.size > maxBytes) {
      throw invalidModelFile({
        file: path,
        where: 'file size',
        expected: `at most ${maxBytes} bytes`,
        found: `${source.size} bytes`,
      });
    }
    const bytes = new Uint8Array(source.size);
    await source.readInto(bytes, 0);
    return bytes;
  } finally {
    await source.close();
  }
}

function decodeUtf8(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw invalidModelFile({
      file: path,
      where: 'text',
      expected: 'UTF-8',
      found: 'bytes that are not',
      cause: error,
    });
  }
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new AutoglmError('aborted', 'the load was aborted', { cause: signal.reason });
  }
}

function requireRegularFile(path: string, stats: Stats): void {
  if (stats.isFile()) return;
  throw invalidModelFile({
    file: path,
    where: 'file type',
    expected: 'a regular file',
    found: stats.isDirectory() ? 'a directory' : 'a device, pipe or socket',
  });
}

function unreadable(path: string, error: unknown): AutoglmError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new AutoglmError('model_not_found', `${path}: expected a model file, found nothing`, {
      details: { file: path },
      cause: error,
    });
  }
  return new AutoglmError('invalid_model_file', `${path}: cannot be read (${code})`, {
    details: { file: path, found: code },
    hint: 'Check the permissions and the disk.',
    cause: error,
  });
}
