import { basename, dirname } from 'node:path';
import type { DecoderSpec } from '../../native/decoder-spec';
import { statModelPath, throwIfAborted } from '../byte-source';
import type { AdapterDescription } from './adapter-description';
import { readGgufAdapter } from './gguf-adapter';
import { readPeftAdapter } from './peft-adapter';

/**
 * Opens a low-rank adapter for the model that `spec` describes: a directory that PEFT has saved, its safetensors file,
 * or a GGUF file. Only headers are read. Errors: `model_not_found`, `invalid_model_file` (also for an adapter of another
 * base), `unsupported_model`, `aborted`.
 */
export async function openAdapter(
  path: string,
  spec: DecoderSpec,
  signal?: AbortSignal,
): Promise<AdapterDescription> {
  throwIfAborted(signal);
  const stats = await statModelPath(path);
  if (stats.isDirectory()) return readPeftAdapter(path, spec, signal);
  const isPeft = /^adapter_(model\.safetensors|config\.json)$/.test(basename(path));
  return isPeft ? readPeftAdapter(dirname(path), spec, signal) : readGgufAdapter(path, spec, signal);
}
