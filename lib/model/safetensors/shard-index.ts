import { basename } from 'node:path';
import type { JsonObject } from '../checkpoint-types';
import { invalidModelFile, quoted } from '../model-file-error';

/** A file name and nothing more: what an index names stays inside its directory. */
const SHARD_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}\.safetensors$/;
const NUMBERED_SHARD = /^(.*-)\d+(-of-\d+\.safetensors)$/;

/** Which file holds which tensor, from the text of model.safetensors.index.json. */
export function readShardIndex(file: string, index: JsonObject): ReadonlyMap<string, string> {
  const map = index.weight_map;
  const fault = (where: string, expected: string, found: string) =>
    invalidModelFile({ file, where, expected, found });
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw fault('key "weight_map"', 'an object of tensor names and file names', 'none');
  }
  const shards = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    const where = `key "weight_map", tensor ${quoted(tensor)}`;
    if (typeof shard !== 'string') throw fault(where, 'a file name', typeof shard);
    if (!SHARD_NAME.test(shard)) {
      throw fault(where, 'the plain name of a .safetensors file in the same directory', quoted(shard));
    }
    shards.set(tensor, shard);
  }
  if (shards.size === 0) throw fault('key "weight_map"', 'at least one tensor', 'none');
  return shards;
}

/** Refuses files numbered like the index's shards that the index does not name: parts of another model. */
export function refuseExtraShards(
  indexFile: string,
  named: ReadonlySet<string>,
  present: readonly string[],
): void {
  const seriesOf = (name: string): string => name.replace(NUMBERED_SHARD, '$1*$2');
  const series = new Set([...named].filter((name) => NUMBERED_SHARD.test(name)).map(seriesOf));
  const extra = present.find((name) => !named.has(name) && series.has(seriesOf(name)));
  if (extra === undefined) return;
  throw invalidModelFile({
    file: indexFile,
    where: 'key "weight_map"',
    expected: 'every shard of the directory to be named',
    found: `the shard ${quoted(basename(extra))} besides`,
    hint: 'Delete shards that belong to another download, or fetch the index again.',
  });
}
