import type { AutoglmError } from '../errors';
import { FileSource } from './byte-source';
import { quoted, unsupportedModel } from './model-file-error';

const PICKLED = /\.(bin|pt|pth|ckpt)$/i;

/** Whether a file is named as PyTorch names its weights and is no GGUF file all the same. */
export async function isPickled(path: string, signal?: AbortSignal): Promise<boolean> {
  if (!PICKLED.test(path)) return false;
  const source = await FileSource.open(path, signal);
  try {
    const magic = new Uint8Array(Math.min(4, source.size));
    await source.readInto(magic, 0);
    return new TextDecoder('latin1').decode(magic) !== 'GGUF';
  } finally {
    await source.close();
  }
}

/** The first of these names that is pickled, or null. */
export function firstPickled(names: readonly string[]): string | null {
  return (
    names.find((name) => /^(pytorch_model|model|consolidated)[\w.-]*$/.test(name) && PICKLED.test(name)) ??
    null
  );
}

/** Why PyTorch's own files are not read, and what to do instead. */
export function pickledWeights(path: string, name: string): AutoglmError {
  return unsupportedModel(
    path,
    `${quoted(name)}, a pickled PyTorch file: reading one can run any code that its author put there, so it`,
    ['.safetensors', '.gguf'],
    'Use the same model in safetensors, which most repositories have beside it, or convert it once in Python where you trust the file: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, safe_serialization=True).',
  );
}
