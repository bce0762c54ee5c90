import { resolve } from 'node:path';
import { AutoglmError } from '../../errors';
import {
  type DescribedEntry,
  describeEntries,
  removeEntry,
  removePacked,
} from '../../model/packed-cache/packed-contents';
import { listCached } from '../../model/source/cached-models';
import { formatBytes, formatTable } from '../figures';
import { answer, answerJson, note } from '../terminal';

// The packed weights on this machine, docs/decisions/0012-packed-weights-on-disk.md: cache ls, cache rm.

/** Lists packed weights, the longest unused first: they go first when room is wanted. */
export async function listPacked(flags: { readonly json?: boolean }): Promise<number> {
  const entries = await describeEntries();
  if (flags.json === true) answerJson(entries.map(shown));
  else if (entries.length === 0) note('No packed weights are kept.');
  else {
    const rows = entries.map(({ bytes, usedAt, path, description }) => [
      formatBytes(bytes),
      new Date(usedAt).toISOString().slice(0, 10),
      description?.precision ?? 'unreadable',
      path,
    ]);
    answer(formatTable(['SIZE', 'LAST USED', 'PRECISION', 'FILE'], rows, [0]));
  }
  return 0;
}

export interface RemovePackedFlags {
  readonly all?: boolean;
  readonly json?: boolean;
}

/** Removes the packed weights of models, or all of them; the models stay, and are packed again when they are loaded. */
export async function removePackedWeights(
  models: readonly string[],
  flags: RemovePackedFlags,
): Promise<number> {
  if (models.length > 0 === (flags.all === true)) {
    throw new AutoglmError('invalid_parameter', 'expected models whose packed weights are to go, or --all', {
      hint: 'open-autoglm cache ls lists them.',
    });
  }
  const removed = flags.all === true ? await removeAll() : await removeOf(models);
  if (flags.json === true) answerJson(removed.map(shown));
  else for (const { path, bytes } of removed) note(`removed ${path} (${formatBytes(bytes)})`);
  return 0;
}

async function removeAll(): Promise<readonly DescribedEntry[]> {
  const entries = await describeEntries();
  for (const entry of entries) await removeEntry(entry);
  return entries;
}

async function removeOf(models: readonly string[]): Promise<readonly DescribedEntry[]> {
  const cached = await listCached();
  const removed: DescribedEntry[] = [];
  for (const model of models) {
    const fetched = cached.filter(({ source, names }) => source === model || names.includes(model));
    const paths = fetched.length > 0 ? fetched.map(({ path }) => path) : [resolve(model)];
    const found = (await Promise.all(paths.map(removePacked))).flat();
    if (found.length === 0) {
      throw new AutoglmError('model_not_found', `${model}: no packed weights are kept for it`, {
        hint: 'open-autoglm cache ls lists them.',
        details: { source: model },
      });
    }
    removed.push(...found);
  }
  return removed;
}

const shown = ({ path, bytes, usedAt, description }: DescribedEntry) => ({
  path,
  bytes,
  lastUsed: new Date(usedAt).toISOString(),
  model: description?.model ?? null,
  precision: description?.precision ?? null,
});
