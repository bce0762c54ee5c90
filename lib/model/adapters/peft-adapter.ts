import { join } from 'node:path';
import type { DecoderSpec } from '../../native/decoder-spec';
import { FileSource, readSmallText } from '../byte-source';
import type { StoredTensor } from '../checkpoint-types';
import { parseJsonObject } from '../json-config';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import { parseSafetensors } from '../safetensors/header';
import type { AdapterDescription } from './adapter-description';
import { describePairs, pairTensors } from './low-rank-pairs';
import { PeftConfig } from './peft-config';

const MAX_CONFIG_BYTES = 4 << 20;
export const PEFT_CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';

/** Reads adapter_config.json and adapter_model.safetensors of a directory that PEFT has written. */
export async function readPeftAdapter(
  directory: string,
  spec: DecoderSpec,
  signal: AbortSignal | undefined,
): Promise<AdapterDescription> {
  const configFile = join(directory, PEFT_CONFIG);
  const text = await readSmallText(configFile, MAX_CONFIG_BYTES, signal);
  if (text === null) {
    throw invalidModelFile({
      file: configFile,
      where: 'adapter',
      expected: `${PEFT_CONFIG} beside ${WEIGHTS}`,
      found: 'no such file',
      hint: 'Point at a directory that PEFT has saved, or at a GGUF adapter.',
    });
  }
  const config = new PeftConfig(configFile, parseJsonObject(configFile, text));
  const file = join(directory, WEIGHTS);
  const source = await FileSource.open(file, signal);
  try {
    const { tensors } = await parseSafetensors(source);
    const described = describePairs(pairTensors(file, halvesOf(file, tensors.values())), {
      file,
      spec,
      scaleOf: (module, rank) => config.scaleOf(module, rank),
      rowOrderOf: () => null,
    });
    const files = [{ path: file, size: source.size, mtimeMs: source.mtimeMs }];
    return { format: 'peft', files, ...described, baseModel: config.baseModel };
  } finally {
    await source.close();
  }
}

/** Before the module's own name stand the two wrappers of PEFT; behind it may stand the adapter's name. */
const LOW_RANK = /^base_model\.model\.(.+)\.lora_([AB])(?:\.[\w-]+)?\.weight$/;

function* halvesOf(file: string, tensors: Iterable<Omit<StoredTensor, 'file'>>) {
  for (const tensor of tensors) {
    const match = LOW_RANK.exec(tensor.name);
    if (match === null) {
      throw unsupportedModel(
        file,
        `tensor ${quoted(tensor.name)}`,
        ['base_model.model.MODULE.lora_A.weight', 'base_model.model.MODULE.lora_B.weight'],
        'Adapters of embeddings, saved modules and DoRA are not supported.',
      );
    }
    const half = match[2] === 'A' ? ('a' as const) : ('b' as const);
    yield { module: match[1] as string, half, tensor: { ...tensor, file: 0 } };
  }
}
