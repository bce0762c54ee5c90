import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AutoglmError } from '../../errors';
import { parseSourceName, type RemoteName } from './source-name';
import type { SourceFacts } from './source-types';

/** A model with a short name. */
export interface CatalogEntry {
  readonly name: string;
  readonly description: string;
  /** In the order in which they are tried. */
  readonly sources: readonly CatalogSource[];
}

export interface CatalogSource {
  readonly name: RemoteName;
  /** Of this source's file; another source of the entry may hold other bytes. */
  readonly facts: SourceFacts;
}

type CatalogFile = Readonly<
  Record<
    string,
    {
      readonly description: string;
      readonly sources: readonly {
        readonly source: string;
        readonly sha256?: string;
        readonly size?: number;
      }[];
    }
  >
>;

let entries: readonly CatalogEntry[] | null = null;

/** All entries, read from catalog.json once. */
export function catalogEntries(): readonly CatalogEntry[] {
  entries ??= readCatalog();
  return entries;
}

/** The entry of a short name, in any letter case, or null. */
export function findCatalogEntry(name: string): CatalogEntry | null {
  return catalogEntries().find((entry) => entry.name === name.toLowerCase()) ?? null;
}

function readCatalog(): CatalogEntry[] {
  const file = JSON.parse(readFileSync(join(__dirname, 'catalog.json'), 'utf8')) as CatalogFile;
  return Object.entries(file).map(([name, { description, sources }]) => ({
    name,
    description,
    sources: sources.map(({ source, sha256, size }) => ({
      name: requireRemote(source, name),
      facts: { sha256: sha256 ?? null, size: size ?? null },
    })),
  }));
}

function requireRemote(source: string, entry: string): RemoteName {
  const name = parseSourceName(source);
  if (name.kind !== 'path' && name.kind !== 'short') return name;
  throw new AutoglmError('internal', `catalog.json: ${entry}: ${source} is not a remote source`);
}
