import {
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { hubCacheFolder } from '../cache-folders';
import { isCompleteCheckpoint, otherParts } from '../repo-files';
import type { HubName } from '../source-name';
import type { FoundModel, SourceFacts } from '../source-types';

// The layout of Hugging Face's own tools, so that a model is on the disk once whoever fetched it:
//   <cache>/models--org--name/refs/<revision>              text: the commit
//                            /blobs/<etag>                 bytes
//                            /snapshots/<commit>/<file>    link to ../../blobs/<etag>

export const DEFAULT_REVISION = 'main';
const COMMIT = /^[0-9a-f]{40}$/;

export function repositoryFolder(repository: string): string {
  return join(hubCacheFolder(), `models--${repository.replace('/', '--')}`);
}

export function blobPath(repository: string, etag: string): string {
  return join(repositoryFolder(repository), 'blobs', etag);
}

/** Not the name that Hugging Face's own tools lock: theirs is a file they expect to be able to open. */
export function blobLockPath(repository: string, etag: string): string {
  const folder = `models--${repository.replace('/', '--')}`;
  return join(hubCacheFolder(), '.locks', folder, `${etag}.open-autoglm.lock`);
}

/** The cached file or checkpoint of a source, or null. */
export async function findInHubCache(name: HubName, facts: SourceFacts): Promise<FoundModel | null> {
  const commit = await readCommit(name.repository, name.revision ?? DEFAULT_REVISION);
  if (commit === null) return null;
  const snapshot = join(repositoryFolder(name.repository), 'snapshots', commit);
  if (name.file === null) {
    const files = await presentFiles(snapshot);
    return isCompleteCheckpoint(files) ? { path: snapshot, revision: commit } : null;
  }
  const path = join(snapshot, name.file);
  const stats = await stat(path).catch(() => null);
  if (stats === null || !stats.isFile()) return null;
  for (const part of otherParts(name.file)) {
    const partStats = await stat(join(snapshot, part)).catch(() => null);
    if (partStats === null || !partStats.isFile()) return null;
  }
  return facts.size === null || stats.size === facts.size ? { path, revision: commit } : null;
}

/** The commit that a revision stands for in the cache, or null. */
export async function readCommit(repository: string, revision: string): Promise<string | null> {
  if (COMMIT.test(revision)) return revision;
  const text = await readFile(join(repositoryFolder(repository), 'refs', revision), 'utf8').catch(() => '');
  return COMMIT.test(text.trim()) ? text.trim() : null;
}

/** Names whose bytes are there; a link may dangle after somebody cleaned blobs/ by hand. */
async function presentFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  const present: string[] = [];
  for (const name of names) {
    const stats = await stat(join(folder, name)).catch(() => null);
    if (stats?.isFile()) present.push(name);
  }
  return present;
}

/** Remembers which commit a branch or tag stands for; done last, when the files of the commit are there. */
export async function writeRef(repository: string, revision: string, commit: string): Promise<void> {
  if (revision === commit) return;
  const path = join(repositoryFolder(repository), 'refs', revision);
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.incomplete`;
  await writeFile(temporary, commit);
  await rename(temporary, path);
}

/** Makes a blob visible under its name in the snapshot, and gives that path. */
export async function linkIntoSnapshot(
  repository: string,
  commit: string,
  file: string,
  etag: string,
): Promise<string> {
  const path = join(repositoryFolder(repository), 'snapshots', commit, file);
  const blob = blobPath(repository, etag);
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.incomplete`;
  await rm(temporary, { force: true });
  await symlink(relative(dirname(path), blob), temporary).catch(() =>
    // No right to make symbolic links (Windows): a hard link, and a copy where that fails too.
    link(blob, temporary).catch(() => copyFile(blob, temporary)),
  );
  await rename(temporary, path);
  return path;
}
