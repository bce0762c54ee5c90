import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { throwIfAborted } from '../../byte-source';

/** What tells one version of a remote file from another. */
export interface FileVersion {
  /** Name of the content itself, such as its hash; null where only the server's validators tell versions apart. */
  readonly identity: string | null;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/** Short enough to hash in a few milliseconds on the main thread. */
const CHUNK_BYTES = 1 << 20;

/**
 * A download that is not complete: `<path>` holds its first bytes, `<path>.json` the version they are of. The order of
 * writes makes that true at every moment, so a process may be killed at any point: the bytes go first, then the version
 * is replaced by rename, then new bytes come. Writes are at explicit offsets: two processes that download the same
 * version write the same bytes to the same places.
 */
export class PartialFile {
  readonly #handle: FileHandle;
  #hash: Hash = createHash('sha256');
  #size = 0;
  #version: FileVersion | null = null;

  private constructor(
    readonly path: string,
    handle: FileHandle,
  ) {
    this.#handle = handle;
  }

  /** Opens what is there, hashing its bytes, or starts an empty one. */
  static async open(path: string, signal: AbortSignal | undefined): Promise<PartialFile> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o666);
    const file = new PartialFile(path, handle);
    try {
      file.#version = await readVersion(versionPath(path));
      if (file.#version !== null) await file.#hashExisting(signal);
      return file;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Bytes that are here. */
  get size(): number {
    return this.#size;
  }

  /** Version of the bytes that are here; null when they are of no use. */
  get version(): FileVersion | null {
    return this.#version;
  }

  /** Forgets the bytes and begins with another version. */
  async restart(version: FileVersion): Promise<void> {
    if ((await this.#handle.stat()).size > 0) await this.#handle.truncate(0);
    this.#hash = createHash('sha256');
    this.#size = 0;
    await writeVersion(this.path, version);
    this.#version = version;
  }

  async append(chunk: Uint8Array): Promise<void> {
    let done = 0;
    while (done < chunk.length) {
      const { bytesWritten } = await this.#handle.write(chunk, done, chunk.length - done, this.#size + done);
      done += bytesWritten;
    }
    this.#hash.update(chunk);
    this.#size += chunk.length;
  }

  /** SHA-256 of the bytes that are here, lower-case hex. */
  sha256(): string {
    return this.#hash.copy().digest('hex');
  }

  /** Gives the complete file its name. */
  async finish(target: string): Promise<void> {
    // A power cut after the rename must not leave a file of the right name and size with holes in it.
    try {
      await this.#handle.datasync();
    } finally {
      await this.#handle.close();
    }
    await rename(this.path, target);
    await rm(versionPath(this.path), { force: true });
  }

  /** Removes the bytes: they are wrong. */
  async discard(): Promise<void> {
    await this.#handle.close();
    await removePartial(this.path);
  }

  /** Keeps the bytes for the next try. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #hashExisting(signal: AbortSignal | undefined): Promise<void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (;;) {
      throwIfAborted(signal);
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, this.#size);
      if (bytesRead === 0) return;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.#size += bytesRead;
    }
  }
}

export async function removePartial(path: string): Promise<void> {
  await rm(path, { force: true });
  await rm(versionPath(path), { force: true });
}

/** Turns a finished file back into a partial one with all its bytes, so that they are checked; absent ones are left. */
export async function reopenFinished(target: string, path: string, identity: string): Promise<void> {
  const stats = await stat(target).catch(() => null);
  if (stats === null) return;
  await rm(path, { force: true });
  await writeVersion(path, { identity, etag: null, lastModified: null });
  await rename(target, path);
}

async function writeVersion(path: string, version: FileVersion): Promise<void> {
  const temporary = `${versionPath(path)}.${process.pid}`;
  await writeFile(temporary, JSON.stringify(version));
  await rename(temporary, versionPath(path));
}

function versionPath(path: string): string {
  return `${path}.json`;
}

/** Null when there is none, or when a crash left something unreadable: the download then starts anew. */
async function readVersion(path: string): Promise<FileVersion | null> {
  const text = await readFile(path, 'utf8').catch(() => '');
  try {
    const value = JSON.parse(text) as Partial<FileVersion> | null;
    if (value === null || typeof value !== 'object') return null;
    const { identity = null, etag = null, lastModified = null } = value;
    return { identity, etag, lastModified };
  } catch {
    return null;
  }
}
