import { type FileHandle, lstat, lutimes, open, readdir, readlink, rm, stat } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import {
  decodeHeader,
  type PackedDescription,
  PREFIX_BYTES,
  readHeaderLength,
  refusal,
  type StoredHeader,
} from './packed-header';
import { PACKED_SUFFIX, packedFolder } from './packed-places';

/** Packed weights on disk, known by their entry in the cache folder: the file itself, or a link to it. */
export interface PackedEntry {
  readonly entry: string;
  readonly path: string;
  readonly bytes: number;
  /** When a load last used or wrote them, ms. */
  readonly usedAt: number;
}

export interface DescribedEntry extends PackedEntry {
  /** Null for a file whose header cannot be read. */
  readonly description: PackedDescription | null;
}

/** Reads the header alone. Throws `invalid_model_file`, and what the file system says. */
export async function readPackedHeader(path: string): Promise<StoredHeader> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const prefix = await readStart(handle, Math.min(size, PREFIX_BYTES));
    const length = readHeaderLength(path, prefix);
    if (length > size) throw refusal(path, `has ${size} bytes, its header alone has ${length}`);
    return decodeHeader(path, await readStart(handle, length), size);
  } finally {
    await handle.close();
  }
}

async function readStart(handle: FileHandle, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await handle.read(bytes, 0, length, 0);
  return bytes.subarray(0, bytesRead);
}

/** All entries, the longest unused first. Links to what is gone are cleared away. */
export async function listEntries(): Promise<PackedEntry[]> {
  const folder = packedFolder();
  const entries: PackedEntry[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.endsWith(PACKED_SUFFIX)) continue;
    const entry = join(folder, name);
    const [own, target] = await Promise.all(
      [lstat(entry), stat(entry)].map((each) => each.catch(() => null)),
    );
    if (own === null || own === undefined) continue;
    if (target === null || target === undefined) {
      await rm(entry, { force: true });
      continue;
    }
    const path = own.isSymbolicLink() ? resolve(folder, await readlink(entry)) : entry;
    entries.push({ entry, path, bytes: target.size, usedAt: own.mtimeMs });
  }
  return entries.sort((a, b) => a.usedAt - b.usedAt);
}

export async function describeEntries(): Promise<DescribedEntry[]> {
  return Promise.all(
    (await listEntries()).map(async (entry) => {
      const header = await readPackedHeader(entry.path).catch(() => null);
      return { ...entry, description: header?.description ?? null };
    }),
  );
}

/** Notes that the entry was used. False where there is none, or where the cache folder cannot be written. */
export async function markUsed(entry: string): Promise<boolean> {
  const now = new Date();
  return lutimes(entry, now, now).then(
    () => true,
    () => false,
  );
}

/** A model that has them mapped or open keeps its bytes. Only files of our own name are removed. */
export async function removeEntry({ entry, path }: PackedEntry): Promise<void> {
  if (path !== entry && path.endsWith(PACKED_SUFFIX)) await rm(path, { force: true });
  await rm(entry, { force: true });
}

/** Removes the longest unused entries until `bytes` more fit into `maxBytes`; the one to be replaced does not count. */
export async function makeRoom(maxBytes: number, bytes: number, replaced: string): Promise<void> {
  const others = (await listEntries()).filter(({ entry }) => entry !== replaced);
  let total = others.reduce((sum, each) => sum + each.bytes, bytes);
  for (const each of others) {
    if (total <= maxBytes) return;
    await removeEntry(each);
    total -= each.bytes;
  }
}

/** Removes packed weights by their own path, of a model or of all models in a folder, and gives what went. */
export async function removePacked(model: string): Promise<DescribedEntry[]> {
  const path = resolve(model);
  const found = (await describeEntries()).filter(
    (entry) =>
      entry.path === path ||
      entry.description?.model === path ||
      entry.description?.model.startsWith(path + sep) === true,
  );
  for (const each of found) await removeEntry(each);
  return found;
}
