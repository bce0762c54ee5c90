import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { RemoteName } from '../source-name';
import type { FetchContext, FoundModel, SourceFacts } from '../source-types';
import { downloadFile, type RemoteFile } from '../transfer/download';
import { withFileLock } from '../transfer/file-lock';
import { reopenFinished } from '../transfer/partial-file';
import { completeStored, findStored, type StoredFile, storeDirectory } from './model-store';

export interface StoreDownload {
  /** Name in the folder of the store. */
  readonly name: string;
  readonly remote: RemoteFile;
}

/**
 * Downloads the files of a source into its folder of the store and marks the folder complete. `listFiles` is asked under
 * the lock, so that the second of two processes asks the server nothing.
 */
export async function fetchIntoStore(
  name: RemoteName,
  facts: SourceFacts,
  context: FetchContext,
  listFiles: () => Promise<{ downloads: readonly StoreDownload[]; isDirectory: boolean }>,
): Promise<FoundModel> {
  const directory = storeDirectory(name);
  const waiting = (): void =>
    context.log({ level: 'info', text: `${name.text}: another process is fetching it` });
  return withFileLock(`${directory}.lock`, context.signal, waiting, async () => {
    const finished = await findStored(name, facts);
    if (finished !== null) return { path: finished.path, revision: null };
    const { downloads, isDirectory } = await listFiles();
    await mkdir(directory, { recursive: true });
    await removeOthers(directory, downloads);
    const files: StoredFile[] = [];
    for (const { name: file, remote } of downloads) {
      const target = join(directory, file);
      await mkdir(dirname(target), { recursive: true });
      const partial = `${target}.incomplete`;
      // A fetch that was killed after this file: its bytes are checked again, not fetched again.
      if (remote.identity !== null) await reopenFinished(target, partial, remote.identity);
      files.push({ name: file, ...(await downloadFile(remote, target, partial, context)) });
    }
    const stored = await completeStored(name, files, isDirectory);
    return { path: stored.path, revision: null };
  });
}

/** Removes what an earlier, unfinished fetch left and this one does not go on with. */
async function removeOthers(directory: string, downloads: readonly StoreDownload[]): Promise<void> {
  const kept = new Set(
    downloads.flatMap(({ name }) =>
      name.includes('/')
        ? [name.slice(0, name.indexOf('/'))]
        : [name, `${name}.incomplete`, `${name}.incomplete.json`],
    ),
  );
  for (const entry of await readdir(directory)) {
    if (!kept.has(entry)) await rm(join(directory, entry), { recursive: true, force: true });
  }
}
