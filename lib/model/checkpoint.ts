import { readdir } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { statModelPath, throwIfAborted } from './byte-source';
import { openGguf } from './checkpoint-gguf';
import { openSafetensors } from './checkpoint-safetensors';
import type { Checkpoint } from './checkpoint-types';
import { parseSplitName } from './gguf/split-name';
import { isPickled, pickledWeights } from './pickled-weights';

export interface OpenCheckpointOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a model for reading: a GGUF file, a .safetensors file with config.json beside it, or a directory with
 * config.json and model.safetensors or its shards, or with a single GGUF file, which may be split into parts. Only headers and small files are read;
 * no file stays open. Errors: `model_not_found`, `invalid_model_file`, `unsupported_model`, `aborted`.
 */
export async function openCheckpoint(path: string, options: OpenCheckpointOptions = {}): Promise<Checkpoint> {
  const { signal } = options;
  throwIfAborted(signal);
  const stats = await statModelPath(path);
  if (!stats.isDirectory()) {
    if (await isPickled(path, signal)) throw pickledWeights(path, basename(path));
    const isSafetensors = extname(path).toLowerCase() === '.safetensors';
    return isSafetensors ? openSafetensors(dirname(path), path, signal) : openGguf(path, signal);
  }
  const names = await readdir(path);
  const gguf = singleGguf(names);
  if (gguf !== null && !names.includes('config.json')) return openGguf(join(path, gguf), signal);
  return openSafetensors(path, null, signal);
}

/** The only GGUF file of a folder, or the first part of the only split one. */
function singleGguf(names: readonly string[]): string | null {
  const all = names.filter((name) => extname(name).toLowerCase() === '.gguf').sort();
  const [first] = all;
  if (first === undefined) return null;
  const parts = parseSplitName(first)?.parts ?? [first];
  return all.every((name) => parts.includes(name)) ? first : null;
}
