import { join } from 'node:path';
import type { Pooling } from '../native/abi';
import type { JsonObject, JsonValue } from './checkpoint-types';
import type { ConfigReader } from './config-reader';
import { requireInteger } from './config-reader';
import { JsonConfig } from './json-config';
import { invalidModelFile, quoted, unsupportedModel } from './model-file-error';

export type PoolingName = keyof typeof Pooling;

/** A dense layer behind the pooling, with its weights in a folder of its own. */
export interface DenseModule {
  readonly folder: string;
  readonly inSize: number;
  readonly outSize: number;
  readonly hasBias: boolean;
  readonly hasTanh: boolean;
}

/** How a sentence-transformers checkpoint makes an embedding from hidden states. */
export interface SentenceTransformersFiles {
  readonly pooling: PoolingName;
  readonly denseModules: readonly DenseModule[];
  readonly normalizes: boolean;
  /** Tokens of one input, special ones included; null for what the model can take. */
  readonly maxLength: number | null;
  /** Texts put before an input, by name. */
  readonly prompts: Readonly<Record<string, string>>;
  readonly defaultPrompt: string | null;
}

export interface SmallFiles {
  /** Parsed JSON of a file below the checkpoint's directory, null when absent. */
  readonly readObject: (name: string) => Promise<JsonObject | null>;
  readonly readList: (name: string) => Promise<readonly JsonValue[] | null>;
}

/** A folder beside the weights: nothing that leaves the checkpoint. */
const MODULE_FOLDER = /^[\w.-]{1,64}$/;
const MAX_MODULES = 16;
const MAX_SIZE = 1 << 17;

/** Reads modules.json and the files it names; null for a checkpoint without them. */
export async function readSentenceTransformers(
  directory: string,
  { readObject, readList }: SmallFiles,
): Promise<SentenceTransformersFiles | null> {
  const file = join(directory, 'modules.json');
  const list = await readList('modules.json');
  if (list === null) return null;
  if (list.length > MAX_MODULES) {
    throw invalidModelFile({
      file,
      where: 'modules',
      expected: `at most ${MAX_MODULES}`,
      found: `${list.length}`,
    });
  }
  const configOf = async (folder: string): Promise<ConfigReader> => {
    const name = `${folder}/config.json`;
    const values = await readObject(name);
    if (values !== null) return new JsonConfig(join(directory, name), values);
    throw invalidModelFile({
      file,
      where: `module ${quoted(folder)}`,
      expected: name,
      found: 'no such file',
    });
  };
  let pooling: PoolingName | null = null;
  let normalizes = false;
  const denseModules: DenseModule[] = [];
  for (const { kind, folder } of list.map((value, i) => moduleAt(file, value, i))) {
    if (kind === 'Pooling') pooling = readPooling(await configOf(folder));
    else if (kind === 'Normalize') normalizes = true;
    else if (kind === 'Dense') denseModules.push(readDense(folder, await configOf(folder)));
    else if (kind !== 'Transformer')
      throw unsupportedModel(file, `a module of type ${quoted(kind)}`, MODULE_KINDS);
  }
  if (pooling === null) throw unsupportedModel(file, 'a list of modules without Pooling', MODULE_KINDS);
  const limits = await readObject('sentence_bert_config.json');
  const limitsFile = join(directory, 'sentence_bert_config.json');
  const maxLength = new JsonConfig(limitsFile, limits ?? {}).integer('max_seq_length', 1, 1 << 27);
  const general = await readObject('config_sentence_transformers.json');
  return { pooling, denseModules, normalizes, maxLength, ...readPrompts(directory, general ?? {}) };
}

const MODULE_KINDS = ['Transformer', 'Pooling', 'Dense', 'Normalize'];

function moduleAt(file: string, value: JsonValue, index: number): { kind: string; folder: string } {
  const config = new JsonConfig(file, { [index]: value });
  const kind = (config.string(`${index}.type`) ?? '').split('.').at(-1) ?? '';
  const folder = config.string(`${index}.path`) ?? '';
  if (kind === 'Transformer' && folder === '') return { kind, folder };
  if (MODULE_FOLDER.test(folder) && !/^\.+$/.test(folder)) return { kind, folder };
  throw config.fault(`${index}.path`, 'the name of a folder beside the weights', quoted(folder));
}

const POOLING_MODES: Readonly<Record<string, PoolingName | null>> = {
  cls: 'first',
  mean: 'mean',
  lasttoken: 'last',
  max: null,
  mean_sqrt_len_tokens: null,
  weightedmean: null,
};
const POOLING_FLAGS: Readonly<Record<string, string>> = {
  pooling_mode_cls_token: 'cls',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_lasttoken: 'lasttoken',
  pooling_mode_max_tokens: 'max',
  pooling_mode_mean_sqrt_len_tokens: 'mean_sqrt_len_tokens',
  pooling_mode_weightedmean_tokens: 'weightedmean',
};

/** Older files have a flag per mode, newer ones name it. */
function readPooling(config: ConfigReader): PoolingName {
  const named = config.has('pooling_mode') ? config.string('pooling_mode') : null;
  const flagged = Object.keys(POOLING_FLAGS).filter((key) => config.boolean(key) === true);
  const modes = named === null ? flagged.map((key) => POOLING_FLAGS[key] ?? '') : [named];
  const [mode = 'none'] = modes;
  const pooling = modes.length === 1 && Object.hasOwn(POOLING_MODES, mode) ? POOLING_MODES[mode] : null;
  if (config.boolean('include_prompt') === false) {
    throw unsupportedModel(config.file, 'pooling without the prompt’s tokens', ['include_prompt true']);
  }
  if (pooling != null) return pooling;
  throw unsupportedModel(config.file, `pooling ${quoted(modes.join('+') || 'none')}`, [
    'cls',
    'mean',
    'lasttoken',
  ]);
}

function readDense(folder: string, config: ConfigReader): DenseModule {
  const activation = config.string('activation_function') ?? 'torch.nn.modules.activation.Tanh';
  const name = activation.split('.').at(-1) ?? '';
  if (name !== 'Tanh' && name !== 'Identity') {
    throw unsupportedModel(config.file, `activation_function ${quoted(activation)}`, ['Tanh', 'Identity']);
  }
  return {
    folder,
    inSize: requireInteger(config, 'in_features', 1, MAX_SIZE),
    outSize: requireInteger(config, 'out_features', 1, MAX_SIZE),
    hasBias: config.boolean('bias') ?? true,
    hasTanh: name === 'Tanh',
  };
}

function readPrompts(
  directory: string,
  values: JsonObject,
): Pick<SentenceTransformersFiles, 'prompts' | 'defaultPrompt'> {
  const config = new JsonConfig(join(directory, 'config_sentence_transformers.json'), values);
  const prompts: Record<string, string> = Object.create(null);
  const stored = values.prompts ?? null;
  const isObject = typeof stored === 'object' && stored !== null && !Array.isArray(stored);
  for (const [name, text] of Object.entries(isObject ? stored : {})) {
    if (typeof text !== 'string') throw config.fault('prompts', 'texts by name', typeof text);
    prompts[name] = text;
  }
  const defaultPrompt = config.string('default_prompt_name');
  if (defaultPrompt !== null && !Object.hasOwn(prompts, defaultPrompt)) {
    throw config.fault('default_prompt_name', 'the name of a prompt', quoted(defaultPrompt));
  }
  return { prompts, defaultPrompt };
}
