import { FileSource } from './byte-source';
import {
  type ChatTemplates,
  type Checkpoint,
  type GgufTokenizerSource,
  ROPE_VECTORS,
} from './checkpoint-types';
import type { GgufMetadata } from './gguf/metadata';
import { type GgufParts, readGgufParts } from './gguf/parts';
import { invalidModelFile, quoted, unsupportedModel } from './model-file-error';

/** No head has more rotated pairs. */
const MAX_ROPE_VECTOR = 4096;

/** Opens a GGUF file, or all parts of a split one whichever is named: headers, vocabulary, template. */
export async function openGguf(path: string, signal?: AbortSignal): Promise<Checkpoint> {
  const parts = await readGgufParts(path, signal);
  const { files, metadata, tensors } = parts;
  const architecture = metadata.string('general.architecture');
  if (architecture === null)
    throw metadata.fault('general.architecture', 'the name of an architecture', 'nothing');
  refuseOtherContents(metadata);
  const tokenizer = readTokenizer(metadata);
  return {
    path,
    format: 'gguf',
    files,
    config: { kind: 'gguf', architecture, values: metadata },
    generationConfig: null,
    tensors,
    ropeVectors: await readRopeVectors(parts, signal),
    tokenizer,
    chatTemplates: readTemplates(metadata),
    sentenceTransformers: null,
    eosTokenIds: tokenizer === null ? [] : stopIds(tokenizer),
    warnings: [],
  };
}

/** Adapters, vision towers and vocabularies come as GGUF files too. */
function refuseOtherContents(metadata: GgufMetadata): void {
  const type = metadata.string('general.type') ?? 'model';
  if (type === 'model') return;
  throw unsupportedModel(metadata.file, `a GGUF file of type ${quoted(type)}`, ['model']);
}

async function readRopeVectors(
  { files, tensors }: GgufParts,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, Float32Array>> {
  const vectors = new Map<string, Float32Array>();
  for (const name of Object.values(ROPE_VECTORS)) {
    const tensor = tensors.get(name);
    if (tensor === undefined) continue;
    const path = files[tensor.file]?.path ?? '';
    const length = tensor.shape[0] ?? 0;
    if (tensor.format !== 'f32' || tensor.shape.length !== 1 || length > MAX_ROPE_VECTOR) {
      throw invalidModelFile({
        file: path,
        where: `tensor ${quoted(name)}`,
        expected: `F32, 1..${MAX_ROPE_VECTOR} numbers`,
        found: `${tensor.typeName}, shape [${tensor.shape.join(', ')}]`,
      });
    }
    const bytes = new Uint8Array(tensor.byteLength);
    const source = await FileSource.open(path, signal);
    try {
      await source.readInto(bytes, tensor.offset);
    } finally {
      await source.close();
    }
    vectors.set(name, new Float32Array(bytes.buffer));
  }
  return vectors;
}

function readTokenizer(metadata: GgufMetadata): GgufTokenizerSource | null {
  const model = metadata.string('tokenizer.ggml.model');
  const tokens = metadata.stringTable('tokenizer.ggml.tokens');
  if (model === null || tokens === null) return null;
  const numTokens = tokens.ends.length;
  const perToken = <Numbers>(key: string, values: Numbers & { readonly length: number }): Numbers => {
    if (values.length === numTokens) return values;
    throw metadata.fault(key, `one value for each of the ${numTokens} tokens`, `${values.length} values`);
  };
  const types = metadata.typedNumbers('tokenizer.ggml.token_type', ['i32', 'u32']);
  const scores = metadata.typedNumbers('tokenizer.ggml.scores', ['f32']);
  const charsmap = metadata.typedNumbers('tokenizer.ggml.precompiled_charsmap', ['u8', 'i8']);
  const id = (name: string) => metadata.integer(`tokenizer.ggml.${name}_token_id`, 0, numTokens - 1);
  const flag = (name: string) => metadata.boolean(`tokenizer.ggml.${name}`);
  return {
    kind: 'gguf',
    model,
    pre: metadata.string('tokenizer.ggml.pre'),
    tokens,
    tokenTypes:
      types === null ? null : new Int32Array(perToken('tokenizer.ggml.token_type', types as Int32Array)),
    scores: scores === null ? null : perToken('tokenizer.ggml.scores', scores as Float32Array),
    merges: metadata.stringTable('tokenizer.ggml.merges'),
    bosTokenId: id('bos'),
    eosTokenId: id('eos'),
    eotTokenId: id('eot'),
    eomTokenId: id('eom'),
    unknownTokenId: id('unknown'),
    separatorTokenId: id('seperator'), // the format's own spelling
    paddingTokenId: id('padding'),
    maskTokenId: id('mask'),
    addBosToken: flag('add_bos_token'),
    addEosToken: flag('add_eos_token'),
    addSepToken: flag('add_sep_token'),
    addSpacePrefix: flag('add_space_prefix'),
    removeExtraWhitespaces: flag('remove_extra_whitespaces'),
    precompiledCharsmap: charsmap === null ? null : new Uint8Array(charsmap.buffer),
  };
}

function stopIds({ eosTokenId, eotTokenId, eomTokenId }: GgufTokenizerSource): readonly number[] {
  return [...new Set([eosTokenId, eotTokenId, eomTokenId])].filter((id) => id !== null);
}

const TEMPLATE_KEY = 'tokenizer.chat_template';

function readTemplates(metadata: GgufMetadata): ChatTemplates {
  const named: Record<string, string> = Object.create(null);
  for (const [key] of metadata.entries()) {
    if (!key.startsWith(`${TEMPLATE_KEY}.`)) continue;
    const template = metadata.string(key);
    if (template !== null) named[key.slice(TEMPLATE_KEY.length + 1)] = template;
  }
  return { default: metadata.string(TEMPLATE_KEY), named };
}
