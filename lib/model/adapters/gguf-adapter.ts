import type { DecoderSpec } from '../../native/decoder-spec';
import { llama, pairedRowOrder } from '../families/llama';
import { mistral } from '../families/mistral';
import { smollm3 } from '../families/smollm3';
import type { GgufMetadata } from '../gguf/metadata';
import { type GgufParts, readGgufParts } from '../gguf/parts';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import type { AdapterDescription } from './adapter-description';
import type { TargetPlace } from './adapter-targets';
import { describePairs, pairTensors } from './low-rank-pairs';

/** Converters store the q and k rows of these in another order, those of B with them. */
const PAIRED_ARCHITECTURES = [llama, mistral, smollm3].flatMap(({ ggufArchitectures }) => ggufArchitectures);

/**
 * Reads a GGUF adapter: tensors `NAME.weight.lora_a` and `NAME.weight.lora_b`, NAME as in the base model's file.
 * Source: llama.cpp convert_lora_to_gguf.py.
 */
export async function readGgufAdapter(
  path: string,
  spec: DecoderSpec,
  signal: AbortSignal | undefined,
): Promise<AdapterDescription> {
  const { files, metadata, tensors } = await readGgufParts(path, signal);
  refuseOtherContents(metadata);
  const architecture = metadata.string('general.architecture');
  const alpha = metadata.number('adapter.lora.alpha');
  if (alpha === null) throw metadata.fault('adapter.lora.alpha', 'a finite number', 'nothing');
  const isPaired = architecture !== null && PAIRED_ARCHITECTURES.includes(architecture);
  const described = describePairs(pairTensors(path, halvesOf(path, tensors)), {
    file: path,
    spec,
    scaleOf: (_module, rank) => alpha / rank,
    rowOrderOf: (place) => (isPaired ? rowOrderOf(spec, place) : null),
  });
  return { format: 'gguf', files, ...described, baseModel: metadata.string('general.base_model.0.name') };
}

function refuseOtherContents(metadata: GgufMetadata): void {
  const { file } = metadata;
  const type = metadata.string('general.type') ?? 'model';
  if (type !== 'adapter') throw unsupportedModel(file, `a GGUF file of type ${quoted(type)}`, ['adapter']);
  const kind = metadata.string('adapter.type') ?? 'nothing';
  if (kind !== 'lora') throw unsupportedModel(file, `adapter.type ${quoted(kind)}`, ['lora']);
  if (metadata.has('adapter.alora.invocation_tokens')) {
    throw unsupportedModel(file, 'adapter.alora.invocation_tokens', ['adapters of every token']);
  }
}

function* halvesOf(file: string, tensors: GgufParts['tensors']) {
  for (const [name, tensor] of tensors) {
    const match = /^(.+)\.weight\.lora_([ab])$/.exec(name);
    if (match === null) {
      const expected = 'tensors that end in .weight.lora_a and .weight.lora_b';
      throw invalidModelFile({ file, where: 'tensors', expected, found: quoted(name) });
    }
    yield { module: match[1] as string, half: match[2] as 'a' | 'b', tensor };
  }
}

function rowOrderOf(spec: DecoderSpec, { layer, target }: TargetPlace): Int32Array | null {
  const attention = spec.layers[layer]?.attention;
  if (attention === undefined || (target !== 'q' && target !== 'k')) return null;
  const numHeads = target === 'q' ? attention.numQHeads : attention.numKvHeads;
  return pairedRowOrder(numHeads, attention.headDim);
}
