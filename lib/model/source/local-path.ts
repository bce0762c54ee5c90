import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { AutoglmError } from '../../errors';
import { statModelPath } from '../byte-source';
import { invalidModelFile } from '../model-file-error';

/** The absolute path of a model file or checkpoint directory; pipes, devices and absent files are typed errors. */
export async function findLocalModel(path: string): Promise<string> {
  const absolute = resolve(/^~(?=[/\\]|$)/.test(path) ? join(homedir(), path.slice(1)) : path);
  const stats = await statModelPath(absolute).catch((error: unknown) => {
    throw withHubHint(error, path);
  });
  if (stats.isFile() || stats.isDirectory()) return absolute;
  throw invalidModelFile({
    file: absolute,
    where: 'file type',
    expected: 'a regular file or a directory',
    found: 'a device, pipe or socket',
  });
}

/** `org/name` reads like a path; whoever writes it usually means a repository. */
function withHubHint(error: unknown, path: string): unknown {
  if (!AutoglmError.is(error) || error.code !== 'model_not_found') return error;
  const hint = /^[\w.-]+\/[\w.-]+$/.test(path)
    ? `For a repository on Hugging Face write hf:${path}.`
    : 'Check the path; open-autoglm ls lists the short names and what is cached.';
  return new AutoglmError(error.code, error.message, { hint, details: error.details, cause: error });
}
