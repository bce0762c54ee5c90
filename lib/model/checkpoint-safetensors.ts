import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FileSource, readSmallText, throwIfAborted } from './byte-source';
import type {
  ChatTemplates,
  Checkpoint,
  CheckpointFile,
  CheckpointWarning,
  JsonObject,
  JsonValue,
  StoredTensor,
} from './checkpoint-types';
import type { ConfigReader } from './config-reader';
import { JsonConfig, parseJsonList, parseJsonObject } from './json-config';
import { invalidModelFile, quoted } from './model-file-error';
import { firstPickled, pickledWeights } from './pickled-weights';
import { parseSafetensors, SAFETENSORS_LIMITS } from './safetensors/header';
import { readShardIndex, refuseExtraShards } from './safetensors/shard-index';
import { readSentenceTransformers } from './sentence-transformers';
import { readTokenizerFiles } from './tokenizer-files';

const MAX_CONFIG_BYTES = 4 << 20;
/** The largest published index, of a 1-trillion-parameter mixture of experts, takes about 10 MB. */
const MAX_INDEX_BYTES = 32 << 20;
const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
/** Files kept open at once while headers are read is one; a shard count beyond this is damage. */
const MAX_SHARDS = 1024;

interface WeightFiles {
  readonly files: readonly CheckpointFile[];
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly warnings: readonly CheckpointWarning[];
}

/** Opens a checkpoint directory, or one .safetensors file with its config beside it. */
export async function openSafetensors(
  directory: string,
  weightsFile: string | null,
  signal?: AbortSignal,
): Promise<Checkpoint> {
  const readObject = async (name: string): Promise<JsonObject | null> => {
    const file = join(directory, name);
    const text = await readSmallText(file, MAX_CONFIG_BYTES, signal);
    return text === null ? null : parseJsonObject(file, text);
  };
  const config = await readObject('config.json');
  if (config === null) {
    throw invalidModelFile({
      file: join(directory, 'config.json'),
      where: 'checkpoint',
      expected: 'config.json beside the weights',
      found: 'no such file',
    });
  }
  const configReader = new JsonConfig(
    join(directory, 'config.json'),
    await withQuantization(config, readObject),
  );
  const readList = async (name: string): Promise<readonly JsonValue[] | null> => {
    const file = join(directory, name);
    const text = await readSmallText(file, MAX_CONFIG_BYTES, signal);
    return text === null ? null : parseJsonList(file, text);
  };
  const sentenceTransformers = await readSentenceTransformers(directory, { readObject, readList });
  const denseFolders = sentenceTransformers?.denseModules.map(({ folder }) => folder) ?? [];
  const weights = await withModules(
    weightsFile === null ? await readDirectory(directory, signal) : await readFiles([weightsFile], signal),
    directory,
    denseFolders,
    signal,
  );
  const generationConfig = await readObject('generation_config.json');
  const tokenizerConfig = await readObject('tokenizer_config.json');
  const tokenizer = await readTokenizerFiles(directory, tokenizerConfig, readObject, signal);
  const templateFile = join(directory, 'chat_template.jinja');
  const templateText = await readSmallText(templateFile, MAX_CONFIG_BYTES, signal);
  return {
    path: weightsFile ?? directory,
    format: 'safetensors',
    files: weights.files,
    config: { kind: 'huggingface', values: configReader },
    generationConfig,
    tensors: weights.tensors,
    ropeVectors: new Map(),
    tokenizer,
    chatTemplates: readTemplates(directory, tokenizerConfig, templateText),
    sentenceTransformers,
    eosTokenIds: readEosIds(directory, generationConfig, configReader),
    warnings: weights.warnings,
  };
}

/** Adds the weights of modules that have a folder of their own; their tensors' names begin with the folder's. */
async function withModules(
  weights: WeightFiles,
  directory: string,
  folders: readonly string[],
  signal: AbortSignal | undefined,
): Promise<WeightFiles> {
  const files = [...weights.files];
  const tensors = new Map(weights.tensors);
  for (const folder of folders) {
    const module = await readFiles([join(directory, folder, SINGLE_FILE)], signal);
    for (const [name, tensor] of module.tensors) {
      tensors.set(`${folder}/${name}`, { ...tensor, name: `${folder}/${name}`, file: files.length });
    }
    files.push(...module.files);
  }
  return { ...weights, files, tensors };
}

/** Before config.json had `quantization_config`, GPTQ and AWQ wrote a file of their own. */
async function withQuantization(
  config: JsonObject,
  readObject: (name: string) => Promise<JsonObject | null>,
): Promise<JsonObject> {
  if ('quantization_config' in config) return config;
  const gptq = await readObject('quantize_config.json');
  if (gptq !== null) return { ...config, quantization_config: { quant_method: 'gptq', ...gptq } };
  const awq = await readObject('quant_config.json');
  if (awq !== null) return { ...config, quantization_config: { quant_method: 'awq', ...awq } };
  return config;
}

async function readDirectory(directory: string, signal: AbortSignal | undefined): Promise<WeightFiles> {
  const names = await readdir(directory);
  if (names.includes(SINGLE_FILE)) return readFiles([join(directory, SINGLE_FILE)], signal);
  const indexFile = join(directory, INDEX_FILE);
  const indexText = await readSmallText(indexFile, MAX_INDEX_BYTES, signal);
  if (indexText === null) {
    const pickled = firstPickled(names);
    if (pickled !== null) throw pickledWeights(directory, pickled);
    throw invalidModelFile({
      file: directory,
      where: 'checkpoint',
      expected: `${SINGLE_FILE} or ${INDEX_FILE}`,
      found: describeWeights(names),
      hint: 'Point at a GGUF file, or at a directory with safetensors weights.',
    });
  }
  const index = readShardIndex(indexFile, parseJsonObject(indexFile, indexText));
  const shards = [...new Set(index.values())].sort();
  if (shards.length > MAX_SHARDS) {
    const found = `${shards.length}`;
    throw invalidModelFile({ file: indexFile, where: 'shards', expected: `at most ${MAX_SHARDS}`, found });
  }
  requireShards(indexFile, shards, names);
  refuseExtraShards(indexFile, new Set(shards), names);
  const paths = shards.map((shard) => join(directory, shard));
  return checkedAgainstIndex(indexFile, index, await readFiles(paths, signal));
}

function describeWeights(names: readonly string[]): string {
  const others = names.filter((name) => /\.(safetensors|gguf|bin|pt|pth|onnx)$/.test(name));
  return others.length === 0 ? 'no weights' : others.slice(0, 5).map(quoted).join(', ');
}

function requireShards(indexFile: string, shards: readonly string[], present: readonly string[]): void {
  const missing = shards.filter((shard) => !present.includes(shard));
  if (missing.length === 0) return;
  throw invalidModelFile({
    file: indexFile,
    where: 'shards',
    expected: `all ${shards.length} files it names`,
    found: `${missing.length} missing, the first ${quoted(missing[0] ?? '')}`,
    hint: 'The download is incomplete; fetch the rest.',
  });
}

/** Reads the headers one after the other. A tensor in two files is refused: which one is meant is unknown. */
async function readFiles(paths: readonly string[], signal: AbortSignal | undefined): Promise<WeightFiles> {
  const files: CheckpointFile[] = [];
  const tensors = new Map<string, StoredTensor>();
  for (const [file, path] of paths.entries()) {
    throwIfAborted(signal);
    const source = await FileSource.open(path, signal);
    try {
      const header = await parseSafetensors(source, {
        ...SAFETENSORS_LIMITS,
        maxTensors: SAFETENSORS_LIMITS.maxTensors - tensors.size,
      });
      files.push({ path, size: source.size, mtimeMs: source.mtimeMs });
      for (const [name, tensor] of header.tensors) {
        const other = tensors.get(name);
        if (other !== undefined) throw doubled(path, name, files[other.file]?.path ?? '');
        tensors.set(name, { ...tensor, file });
      }
    } finally {
      await source.close();
    }
  }
  return { files, tensors, warnings: [] };
}

function doubled(path: string, name: string, otherPath: string) {
  return invalidModelFile({
    file: path,
    where: `tensor ${quoted(name)}`,
    expected: 'each tensor in one shard',
    found: `it in ${quoted(basename(otherPath))} as well`,
  });
}

/** Every tensor must lie where the index says; tensors the index leaves out are passed over with a warning. */
function checkedAgainstIndex(
  indexFile: string,
  index: ReadonlyMap<string, string>,
  weights: WeightFiles,
): WeightFiles {
  for (const [name, shard] of index) {
    const tensor = weights.tensors.get(name);
    const actual = tensor === undefined ? null : basename(weights.files[tensor.file]?.path ?? '');
    if (actual === shard) continue;
    throw invalidModelFile({
      file: indexFile,
      where: `tensor ${quoted(name)}`,
      expected: `it in ${quoted(shard)}`,
      found: actual === null ? 'it in no shard' : `it in ${quoted(actual)}`,
    });
  }
  const unlisted = [...weights.tensors.keys()].filter((name) => !index.has(name));
  if (unlisted.length === 0) return weights;
  const message = `${indexFile}: ${unlisted.length} tensors are not in the index and not used, e.g. ${unlisted[0]}`;
  return { ...weights, warnings: [{ code: 'unlisted_tensors', message }] };
}

/** A template file comes before the one in tokenizer_config.json, as in transformers. */
function readTemplates(
  directory: string,
  tokenizerConfig: JsonObject | null,
  templateText: string | null,
): ChatTemplates {
  const inConfig = tokenizerConfig?.chat_template ?? null;
  const named: Record<string, string> = Object.create(null);
  let fallback: string | null = null;
  if (typeof inConfig === 'string') {
    fallback = inConfig;
  } else if (inConfig !== null) {
    for (const { name, template } of templateList(directory, inConfig)) {
      if (name === 'default') fallback = template;
      else named[name] = template;
    }
  }
  return { default: templateText ?? fallback, named };
}

function templateList(directory: string, value: unknown): readonly { name: string; template: string }[] {
  const isEntry = (item: unknown): item is { name: string; template: string } =>
    typeof item === 'object' &&
    item !== null &&
    'name' in item &&
    'template' in item &&
    typeof item.name === 'string' &&
    typeof item.template === 'string';
  if (Array.isArray(value) && value.every(isEntry)) return value;
  throw invalidModelFile({
    file: join(directory, 'tokenizer_config.json'),
    where: 'key "chat_template"',
    expected: 'a string or a list of {name, template}',
    found: Array.isArray(value) ? 'a list of other things' : `a value of type ${typeof value}`,
  });
}

const MAX_TOKEN_ID = 1 << 24;

/** generation_config.json names the tokens that end an answer; config.json often only the first of them. */
function readEosIds(
  directory: string,
  generationConfig: JsonObject | null,
  config: ConfigReader,
): readonly number[] {
  const key = 'eos_token_id';
  const generation = new JsonConfig(join(directory, 'generation_config.json'), generationConfig ?? {});
  const reader = generation.has(key) ? generation : config;
  if (!reader.has(key)) return [];
  const ids = reader.isList(key) ? (reader.numbers(key) ?? []) : [reader.integer(key, 0, MAX_TOKEN_ID) ?? 0];
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id > MAX_TOKEN_ID);
  if (wrong !== undefined) throw reader.fault(key, 'token ids', String(wrong));
  return [...new Set(ids)];
}
