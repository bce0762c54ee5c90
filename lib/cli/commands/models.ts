import { listCached, removeCached } from '../../model/source/cached-models';
import { catalogEntries } from '../../model/source/catalog';
import { type ResolvedSource, resolveSource } from '../../model/source/resolve-source';
import { formatBytes, formatTable } from '../figures';
import { Interrupt } from '../interrupt';
import { ProgressDisplay } from '../progress-display';
import { answer, answerJson, note, terminalLogger } from '../terminal';

// The models on this machine: pull, ls, rm.

export interface PullFlags {
  readonly revision?: string;
  readonly offline?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

/** Fetches models into the caches and prints where each one is. */
export async function pull(sources: readonly string[], flags: PullFlags): Promise<number> {
  const interrupt = new Interrupt();
  const display = new ProgressDisplay(process.stderr);
  const log = terminalLogger(flags.verbose === true);
  const found: ResolvedSource[] = [];
  try {
    for (const source of sources) {
      const resolved = await resolveSource(source, {
        signal: interrupt.signal,
        offline: flags.offline === true,
        ...(flags.revision === undefined ? {} : { revision: flags.revision }),
        onProgress: (progress) => {
          if (flags.quiet !== true) display.update({ phase: 'download', ...progress });
        },
        logger: (record) => {
          display.clear();
          log(record);
        },
      });
      display.clear();
      found.push(resolved);
      if (flags.json !== true) answer(resolved.path);
      if (flags.quiet !== true)
        note(`${resolved.source}: ${resolved.isCached ? 'was here already' : 'fetched'}`);
    }
    if (flags.json === true) answerJson(found);
    return 0;
  } finally {
    display.clear();
    interrupt.stop();
  }
}

export interface ListFlags {
  readonly catalog?: boolean;
  readonly json?: boolean;
}

/** Lists what is cached, or the short names. */
export async function list(flags: ListFlags): Promise<number> {
  if (flags.catalog === true) return listCatalog(flags);
  const models = await listCached();
  if (flags.json === true) answerJson(models);
  else if (models.length === 0) note('Nothing is cached. Short names: open-autoglm ls --catalog');
  else {
    const rows = models.map(({ names, source, bytes }) => [names.join(', '), formatBytes(bytes), source]);
    answer(formatTable(['NAME', 'SIZE', 'SOURCE'], rows, [1]));
  }
  return 0;
}

function listCatalog({ json }: ListFlags): number {
  const entries = catalogEntries().map(({ name, description, sources }) => ({
    name,
    description,
    sources: sources.map((source) => source.name.text),
  }));
  if (json === true) answerJson(entries);
  else
    answer(
      formatTable(
        ['NAME', 'MODEL'],
        entries.map((entry) => [entry.name, entry.description]),
      ),
    );
  return 0;
}

/** Removes models from the caches. */
export async function remove(
  sources: readonly string[],
  flags: { readonly json?: boolean },
): Promise<number> {
  const removed = [];
  for (const source of sources) {
    const models = await removeCached(source);
    removed.push(...models);
    if (flags.json === true) continue;
    if (models.length === 0) note(`${source}: removed an unfinished download`);
    for (const model of models) note(`removed ${model.source} (${formatBytes(model.bytes)})`);
  }
  if (flags.json === true) answerJson(removed);
  return 0;
}
