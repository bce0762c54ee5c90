import { randomUUID } from 'node:crypto';
import { lstat, mkdir, open, readdir, rename, rm, statfs, symlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { AutoglmError } from '../../errors';
import type { NativePackedFile } from '../../native/addon';
import { withFileLock } from '../source/transfer/file-lock';
import { makeRoom, markUsed, readPackedHeader } from './packed-contents';
import { encodeHeader, headerBytesFor, SECTION_BYTES, type StoredHeader } from './packed-header';
import { type PackedPlaces, packedPlaces } from './packed-places';

/** There is no such file, and in the last two cases there cannot be one. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG']);
/** Where a folder refuses for good: then the next place is tried. */
const REFUSED: ReadonlySet<string> = new Set([...ABSENT, 'EACCES', 'EPERM', 'EROFS']);

export interface FoundPacked {
  readonly packed: NativePackedFile | null;
  /** What lay there and was of no use, in words. */
  readonly refusals: readonly string[];
}

/** The weights to be kept; `write` puts them into a file at an offset and gives their checksums. */
export interface PackedWeightsToKeep {
  readonly sample: string;
  readonly byteLength: number;
  readonly maxBytes: number;
  /** What lies there has a sound header of these weights, but is damaged behind it. */
  readonly isReplacing: boolean;
  readonly signal: AbortSignal;
  readonly write: (path: string, offset: number, sectionBytes: number) => Promise<Int32Array>;
}

/** The packed weights of one model and precision on disk; docs/decisions/0012-packed-weights-on-disk.md has the rules. */
export class PackedCache {
  private constructor(
    readonly model: string,
    readonly precision: 'fast' | 'exact',
    readonly identity: Buffer,
    readonly places: PackedPlaces,
  ) {}

  static async at(model: string, precision: 'fast' | 'exact', identity: Buffer): Promise<PackedCache> {
    return new PackedCache(resolve(model), precision, identity, await packedPlaces(model, precision));
  }

  /** What an earlier load has left, beside the model or in the cache folder. */
  async find(isShared: boolean): Promise<FoundPacked> {
    const refusals: string[] = [];
    for (const path of this.#paths) {
      if (await isLink(path)) continue; // to what lay beside the model, which comes first
      try {
        const { offset, byteLength, sectionBytes, checksums, sample } = await this.#read(path);
        // The link may be gone with the cache folder; it is what the bound counts.
        if (!(await markUsed(this.places.central)) && path !== this.places.central) await this.#link(path);
        const packed = { path, offset, byteLength, sectionBytes, checksums, sample, isShared };
        return { packed, refusals };
      } catch (error) {
        if (hasCode(error, ABSENT)) continue;
        refusals.push(error instanceof Error ? error.message : String(error));
      }
    }
    return { packed: null, refusals };
  }

  /**
   * Keeps the weights for the next load: one writer at a time among the processes of this machine, and under their name
   * only when they are complete. Gives the path, or null when another process has written them meanwhile. Throws
   * `invalid_parameter` when they are larger than the bound, and what the disk says.
   */
  async keep(weights: PackedWeightsToKeep): Promise<string | null> {
    const { byteLength, maxBytes } = weights;
    const bytes = byteLength + headerBytesFor(byteLength, this.#description);
    if (bytes > maxBytes) {
      throw new AutoglmError(
        'invalid_parameter',
        `${bytes} bytes exceed the ${maxBytes} of weightCache.maxBytes`,
      );
    }
    let refused: unknown = null;
    for (const path of this.#paths) {
      try {
        return await this.#keepAt(path, bytes, weights);
      } catch (error) {
        if (!hasCode(error, REFUSED)) throw error;
        refused = error;
      }
    }
    throw refused;
  }

  get #paths(): string[] {
    const { beside, central } = this.places;
    return beside === null ? [central] : [beside, central];
  }

  get #description(): { model: string; precision: 'fast' | 'exact' } {
    return { model: this.model, precision: this.precision };
  }

  async #read(path: string): Promise<StoredHeader> {
    const header = await readPackedHeader(path);
    if (!header.identity.equals(this.identity)) {
      throw new AutoglmError(
        'invalid_model_file',
        `${path} was made from other files, or with other settings or another version of this package`,
      );
    }
    return header;
  }

  async #keepAt(path: string, bytes: number, weights: PackedWeightsToKeep): Promise<string | null> {
    if (path === this.places.central) await mkdir(dirname(path), { recursive: true });
    return withFileLock(
      `${path}.lock`,
      weights.signal,
      () => {},
      async () => {
        if (!weights.isReplacing && (await this.#read(path).catch(() => null)) !== null) return null;
        await clearUnfinished(path);
        await makeRoom(weights.maxBytes, bytes, this.places.central);
        await requireSpareRoom(dirname(path), bytes);
        const temporary = `${path}.${randomUUID()}.part`;
        try {
          await this.#write(temporary, weights);
          await rename(temporary, path);
        } catch (error) {
          await rm(temporary, { force: true });
          throw error;
        }
        if (path !== this.places.central) await this.#link(path);
        return path;
      },
    );
  }

  async #write(path: string, { sample, byteLength, write }: PackedWeightsToKeep): Promise<void> {
    const handle = await open(path, 'wx');
    try {
      const description = this.#description;
      const checksums = await write(path, headerBytesFor(byteLength, description), SECTION_BYTES);
      const { identity } = this;
      const header = { identity, sample, description, byteLength, sectionBytes: SECTION_BYTES, checksums };
      const bytes = encodeHeader(header);
      await handle.write(bytes, 0, bytes.length, 0);
      // A power cut after the rename must not leave a file of the right name with holes in it.
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  /** Without a link the weights are found all the same, but not counted. */
  async #link(path: string): Promise<void> {
    const { central } = this.places;
    try {
      await mkdir(dirname(central), { recursive: true });
      await rm(central, { force: true });
      await symlink(path, central);
    } catch (error) {
      if (!hasCode(error, REFUSED)) throw error;
    }
  }
}

const hasCode = (error: unknown, codes: ReadonlySet<string>): boolean =>
  codes.has((error as NodeJS.ErrnoException).code ?? '');

const isLink = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => null))?.isSymbolicLink() === true;

/** What a process that was killed has left; the caller holds the lock, so nobody is writing. */
async function clearUnfinished(path: string): Promise<void> {
  const folder = dirname(path);
  for (const name of await readdir(folder)) {
    if (name.startsWith(`${basename(path)}.`) && name.endsWith('.part'))
      await rm(join(folder, name), { force: true });
  }
}

/** A cache takes at most half of what is free: the rest is the user's. */
async function requireSpareRoom(folder: string, bytes: number): Promise<void> {
  const stats = await statfs(folder).catch(() => null);
  if (stats === null || stats.blocks === 0) return;
  const free = stats.bavail * stats.bsize;
  if (bytes > free / 2) {
    throw new AutoglmError(
      'invalid_parameter',
      `${folder}: ${bytes} bytes are more than half of the ${free} free`,
    );
  }
}
