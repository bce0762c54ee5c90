import { createHash } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { basename, join, resolve, sep } from 'node:path';
import { cacheFolder, hubCacheFolder } from '../source/cache-folders';

export const PACKED_SUFFIX = '.packed';

/** Where the packed weights of one model and precision may lie, and where a note of them is kept. */
export interface PackedPlaces {
  /**
   * Beside the model: there they serve everybody who uses the model, and go where it goes. Null in the folders that we
   * or Hugging Face's tools manage: what lies there is fetched, listed and removed by its own rules.
   */
  readonly beside: string | null;
  /** In the user's cache folder. A link to the other place when the weights lie there. */
  readonly central: string;
}

/** Folder of the packed weights that do not lie beside their model, and of links to those that do. */
export const packedFolder = (): string => join(cacheFolder(), 'packed');

export async function packedPlaces(model: string, precision: 'fast' | 'exact'): Promise<PackedPlaces> {
  const path = resolve(model);
  const isFolder = (await stat(path)).isDirectory();
  const suffix = `.${precision}${PACKED_SUFFIX}`;
  const hash = createHash('sha256').update(path).digest('hex').slice(0, 12);
  const words = basename(path).replace(/[^A-Za-z0-9.=_-]+/g, '-');
  return {
    beside: (await isManaged(path)) ? null : isFolder ? join(path, `weights${suffix}`) : path + suffix,
    central: join(packedFolder(), `${words.slice(0, 120).replace(/^[-.]+/, '')}-${hash}${suffix}`),
  };
}

async function isManaged(path: string): Promise<boolean> {
  const real = await realpath(path);
  for (const folder of [cacheFolder(), hubCacheFolder()]) {
    const root = await realpath(folder).catch(() => folder);
    if ([path, real].some((each) => each.startsWith(resolve(folder) + sep) || each.startsWith(root + sep))) {
      return true;
    }
  }
  return false;
}
