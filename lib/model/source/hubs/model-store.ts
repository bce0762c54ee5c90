import { createHash } from 'node:crypto';
import { readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../cache-folders';
import type { RemoteName } from '../source-name';
import { isPlainPath } from '../source-name';
import type { SourceFacts } from '../source-types';

// Models of every source but Hugging Face: one folder each, <cache>/<kind>/<key>/. The folder holds a complete model
// exactly when it holds source.json, which is written last and lists the files.

const RECORD = 'source.json';
const MAX_RECORD_BYTES = 1 << 20;

export interface StoredFile {
  readonly name: string;
  readonly size: number;
  /** Of the bytes as they were written, lower-case hex. */
  readonly sha256: string;
}

export interface StoredModel {
  readonly source: string;
  readonly directory: string;
  readonly files: readonly StoredFile[];
  /** The single file, or the directory of a checkpoint. */
  readonly path: string;
}

/** Folder of a source's files, present or not. Readable for people, unique by the hash of what is fetched. */
export function storeDirectory(name: RemoteName): string {
  const address = name.kind === 'https' ? name.url : name.text;
  const hash = createHash('sha256').update(address).digest('hex').slice(0, 12);
  const words = name.text.slice(name.kind.length + 1).replace(/[^A-Za-z0-9.=_-]+/g, '-');
  return join(cacheFolder(), name.kind, `${words.slice(0, 120).replace(/^[-.]+/, '')}-${hash}`);
}

/** The complete model of a source, or null. A file that is missing or has another size makes it incomplete. */
export async function findStored(name: RemoteName, facts: SourceFacts): Promise<StoredModel | null> {
  const stored = await readStored(storeDirectory(name));
  if (stored === null) return null;
  const [file] = stored.files;
  const isAnother = facts.sha256 !== null && file !== undefined && file.sha256 !== facts.sha256;
  return isAnother ? null : stored;
}

/** Marks a folder as complete. */
export async function completeStored(
  name: RemoteName,
  files: readonly StoredFile[],
  isDirectory: boolean,
): Promise<StoredModel> {
  const directory = storeDirectory(name);
  const temporary = join(directory, `${RECORD}.${process.pid}.incomplete`);
  await writeFile(temporary, `${JSON.stringify({ source: name.text, isDirectory, files }, null, 2)}\n`);
  await rename(temporary, join(directory, RECORD));
  return toStored(directory, { source: name.text, isDirectory, files });
}

/** Every complete model of the store. */
export async function listStored(): Promise<StoredModel[]> {
  const models: StoredModel[] = [];
  for (const kind of ['modelscope', 'https', 'pip']) {
    const folder = join(cacheFolder(), kind);
    for (const key of (await readdir(folder).catch(() => [])).sort()) {
      const stored = await readStored(join(folder, key));
      if (stored !== null) models.push(stored);
    }
  }
  return models;
}

interface StoreRecord {
  readonly source: string;
  readonly isDirectory: boolean;
  readonly files: readonly StoredFile[];
}

function toStored(directory: string, record: StoreRecord): StoredModel {
  const { source, files, isDirectory } = record;
  const [file] = files;
  const path = isDirectory || file === undefined ? directory : join(directory, file.name);
  return { source, directory, files, path };
}

async function readStored(directory: string): Promise<StoredModel | null> {
  const record = await readRecord(join(directory, RECORD));
  if (record === null) return null;
  for (const file of record.files) {
    const stats = await stat(join(directory, file.name)).catch(() => null);
    if (stats?.size !== file.size) return null;
  }
  return toStored(directory, record);
}

/** Null for a record that is absent or not one of ours: its model is then fetched anew. */
async function readRecord(path: string): Promise<StoreRecord | null> {
  const stats = await stat(path).catch(() => null);
  if (stats === null || stats.size > MAX_RECORD_BYTES) return null;
  try {
    const value = JSON.parse(await readFile(path, 'utf8')) as Partial<StoreRecord>;
    const { source, isDirectory, files } = value;
    if (typeof source !== 'string' || typeof isDirectory !== 'boolean' || !Array.isArray(files)) return null;
    return files.length > 0 && files.every(isStoredFile) ? { source, isDirectory, files } : null;
  } catch {
    return null;
  }
}

function isStoredFile(value: unknown): value is StoredFile {
  const { name, size, sha256 } = (value ?? {}) as Partial<StoredFile>;
  return (
    typeof name === 'string' && isPlainPath(name) && typeof size === 'number' && typeof sha256 === 'string'
  );
}
