import { rm, stat } from 'node:fs/promises';
import { AutoglmError } from '../../errors';
import { removePacked } from '../packed-cache/packed-contents';
import { catalogEntries, findCatalogEntry } from './catalog';
import { listHubCache, removeFromHubCache } from './hubs/hugging-face-contents';
import { listStored, storeDirectory } from './hubs/model-store';
import { parseSourceName, type RemoteName } from './source-name';

/** A complete model in one of the caches. */
export interface CachedModel {
  /** As `resolveSource` takes it. */
  readonly source: string;
  /** Short names that stand for it. */
  readonly names: readonly string[];
  readonly path: string;
  readonly bytes: number;
}

/** Models that load without the network: ours, and the GGUF files and checkpoints in Hugging Face's cache. */
export async function listCached(): Promise<CachedModel[]> {
  const stored = (await listStored()).map(({ source, path, files }) => ({
    source,
    path,
    bytes: files.reduce((sum, file) => sum + file.size, 0),
  }));
  const found = [...(await listHubCache()), ...stored];
  return found.map((model) => ({ ...model, names: shortNames(model.source) }));
}

/**
 * Removes what is cached for a short name or a source, also unfinished downloads and packed weights, and gives the models. Throws
 * `model_not_found` when nothing is cached for it. A model that is loaded stays usable: its files are open.
 */
export async function removeCached(source: string): Promise<readonly CachedModel[]> {
  const name = parseSourceName(source);
  if (name.kind === 'path') {
    throw new AutoglmError('invalid_parameter', `${source} is a path; only what was fetched is removed`, {
      hint: 'open-autoglm ls lists what was fetched.',
    });
  }
  const removed = (await listCached()).filter(
    (model) => model.source === name.text || (name.kind === 'short' && model.names.includes(name.name)),
  );
  const sources = name.kind === 'short' ? catalogSources(name.name) : [name];
  let hasRemains = false;
  for (const remote of sources) {
    const isGone = remote.kind === 'hf' ? await removeFromHubCache(remote) : await removeStored(remote);
    hasRemains ||= isGone;
  }
  for (const { path } of removed) await removePacked(path);
  if (removed.length > 0 || hasRemains) return removed;
  throw new AutoglmError('model_not_found', `${source}: nothing is cached for it`, {
    hint: 'open-autoglm ls lists what is cached.',
    details: { source },
  });
}

function shortNames(source: string): string[] {
  return catalogEntries()
    .filter((entry) => entry.sources.some(({ name }) => name.text === source))
    .map((entry) => entry.name);
}

function catalogSources(name: string): RemoteName[] {
  return findCatalogEntry(name)?.sources.map((source) => source.name) ?? [];
}

/** Gives whether there was anything. */
async function removeStored(name: RemoteName): Promise<boolean> {
  const directory = storeDirectory(name);
  const exists = (await stat(directory).catch(() => null)) !== null;
  await rm(directory, { recursive: true, force: true });
  return exists;
}
