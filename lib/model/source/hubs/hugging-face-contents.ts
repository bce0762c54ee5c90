import { readdir, readFile, readlink, rm, stat } from 'node:fs/promises';
import { basename, join, sep } from 'node:path';
import { parseSplitName } from '../../gguf/split-name';
import { hubCacheFolder } from '../cache-folders';
import { isCompleteCheckpoint, otherParts } from '../repo-files';
import type { HubName } from '../source-name';
import { DEFAULT_REVISION, readCommit, repositoryFolder } from './hugging-face-cache';

/** A GGUF file or a checkpoint in Hugging Face's cache, by whomever it was fetched. */
export interface HubCacheModel {
  /** As an `hf:` source. */
  readonly source: string;
  readonly path: string;
  readonly bytes: number;
}

/** Every model of the cache that loads without the network. */
export async function listHubCache(): Promise<HubCacheModel[]> {
  const root = hubCacheFolder();
  const models: HubCacheModel[] = [];
  for (const folder of (await namesIn(root)).filter((name) => name.startsWith('models--')).sort()) {
    const repository = folder.slice('models--'.length).replace('--', '/');
    const revisions = await revisionsOf(repository);
    for (const commit of (await namesIn(join(root, folder, 'snapshots'))).sort()) {
      const revision = revisions.get(commit) ?? commit;
      const suffix = revision === DEFAULT_REVISION ? '' : `@${revision}`;
      models.push(...(await modelsIn(join(root, folder, 'snapshots', commit), repository, suffix)));
    }
  }
  return models;
}

async function modelsIn(snapshot: string, repository: string, suffix: string): Promise<HubCacheModel[]> {
  const sizes = new Map<string, number>();
  for (const name of await namesIn(snapshot, true)) {
    const stats = await stat(join(snapshot, name)).catch(() => null);
    if (stats?.isFile()) sizes.set(name.split(sep).join('/'), stats.size);
  }
  const names = [...sizes.keys()].sort();
  const bytesOf = (files: readonly string[]): number =>
    files.reduce((sum, file) => sum + (sizes.get(file) ?? 0), 0);
  const models = names
    .filter((name) => name.endsWith('.gguf') && isFirstOfAll(name, names))
    .map((name) => ({
      source: `hf:${repository}:${name}${suffix}`,
      path: join(snapshot, name),
      bytes: bytesOf([name, ...otherParts(name)]),
    }));
  if (!isCompleteCheckpoint(names)) return models;
  return [{ source: `hf:${repository}${suffix}`, path: snapshot, bytes: bytesOf(names) }, ...models];
}

/** A split GGUF file is one model, listed by its first part when all are there. */
function isFirstOfAll(name: string, names: readonly string[]): boolean {
  const parts = parseSplitName(name)?.parts ?? [name];
  return parts[0] === name && parts.every((part) => names.includes(part));
}

/**
 * Removes a repository, one revision of it, or one file of a revision, with the blobs that nothing else links to and our
 * unfinished downloads. Gives whether there was anything.
 */
export async function removeFromHubCache(name: HubName): Promise<boolean> {
  const folder = repositoryFolder(name.repository);
  if (!(await exists(folder))) return false;
  if (name.file === null && name.revision === null) {
    await rm(folder, { recursive: true, force: true });
    return true;
  }
  const partials = await removePartials(join(folder, 'blobs'));
  const commit = await readCommit(name.repository, name.revision ?? DEFAULT_REVISION);
  if (commit === null) return partials > 0;
  const snapshot = join(folder, 'snapshots', commit);
  const files = name.file === null ? [''] : [name.file, ...otherParts(name.file)];
  const blobs = new Set<string>();
  let isThere = false;
  for (const target of files.map((file) => join(snapshot, file))) {
    isThere ||= await exists(target);
    for (const blob of await linkedBlobs(target)) blobs.add(blob);
    await rm(target, { recursive: true, force: true });
  }
  if (!isThere) return partials > 0;
  const stillLinked = await linkedBlobs(join(folder, 'snapshots'));
  for (const blob of blobs) {
    if (!stillLinked.has(blob)) await rm(join(folder, 'blobs', blob), { force: true });
  }
  if (!(await containsFiles(join(folder, 'snapshots')))) await rm(folder, { recursive: true, force: true });
  return true;
}

/** Names of the blobs that a link, or the links below a folder, lead to. */
async function linkedBlobs(path: string): Promise<Set<string>> {
  const below = await namesIn(path, true);
  const blobs = new Set<string>();
  for (const link of [path, ...below.map((name) => join(path, name))]) {
    const target = await readlink(link).catch(() => null);
    if (target !== null) blobs.add(basename(target));
  }
  return blobs;
}

async function removePartials(folder: string): Promise<number> {
  const partials = (await namesIn(folder)).filter((name) => name.includes('.open-autoglm.incomplete'));
  for (const name of partials) await rm(join(folder, name), { force: true });
  return partials.length;
}

async function containsFiles(folder: string): Promise<boolean> {
  for (const name of await namesIn(folder, true)) {
    if ((await stat(join(folder, name)).catch(() => null))?.isFile()) return true;
  }
  return false;
}

/** Commit -> branch or tag; the default branch wins where several point to one commit. */
async function revisionsOf(repository: string): Promise<Map<string, string>> {
  const folder = join(repositoryFolder(repository), 'refs');
  const revisions = new Map<string, string>();
  for (const name of (await namesIn(folder, true)).sort()) {
    const commit = (await readFile(join(folder, name), 'utf8').catch(() => '')).trim();
    const revision = name.split(sep).join('/');
    if (!revisions.has(commit) || revision === DEFAULT_REVISION) revisions.set(commit, revision);
  }
  return revisions;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Empty for a folder that is not there. */
async function namesIn(folder: string, recursive = false): Promise<string[]> {
  return readdir(folder, { recursive }).catch(() => []);
}
