import { AutoglmError } from '../../errors';
import { parseSplitName } from '../gguf/split-name';
import { MODEL_FILES } from '../tokenizer-files';

/** Small files of a checkpoint, or of an adapter, that the readers use. */
const SMALL_FILES =
  /^(config|adapter_config|generation_config|special_tokens_map|added_tokens|vocab|modules|sentence_\w+_config|config_sentence_transformers|tokenizer[\w-]*)\.json$|^((tokenizer|sentencepiece\.bpe|spiece)\.model|merges\.txt|vocab\.txt)$|^chat_template[\w-]*\.(json|jinja)$/;
/** Modules of sentence-transformers: how hidden states become an embedding. */
const MODULE_FILES = /^\d+_\w+\/(config\.json|model\.safetensors)$/;
/** A checkpoint has one of these; see `readTokenizerFiles`. */
const TOKENIZER_FILES = ['tokenizer.json', ...MODEL_FILES, 'vocab.json', 'vocab.txt'];
const SHARD = /^(.+)-(\d{5})-of-(\d{5})\.safetensors$/;

/**
 * The files of a repository that a checkpoint needs, small ones first: once the weights are there, everything is. Looks
 * at the top folder, and below it only for modules of embedding models. Null when the weights are not among `names`.
 */
export function checkpointFiles(names: readonly string[]): readonly string[] | null {
  const weights = weightFiles(names);
  if (weights === null) return null;
  const hasModules = names.includes('modules.json');
  const isSmall = (name: string) => SMALL_FILES.test(name) || (hasModules && MODULE_FILES.test(name));
  const small = names.filter(isSmall).sort();
  return [...small, ...weights];
}

/** True when a folder that was filled in that order holds the whole checkpoint, or the whole adapter. */
export function isCompleteCheckpoint(names: readonly string[]): boolean {
  if (names.includes('adapter_config.json') && names.includes('adapter_model.safetensors')) return true;
  const hasTokenizer = TOKENIZER_FILES.some((name) => names.includes(name));
  return names.includes('config.json') && hasTokenizer && weightFiles(names) !== null;
}

function weightFiles(names: readonly string[]): readonly string[] | null {
  if (names.includes('model.safetensors.index.json')) {
    const shards = names.filter((name) => SHARD.exec(name)?.[1] === 'model').sort();
    const count = Number(SHARD.exec(shards[0] ?? '')?.[3] ?? 0);
    return shards.length > 0 && shards.length === count ? ['model.safetensors.index.json', ...shards] : null;
  }
  if (names.includes('model.safetensors')) return ['model.safetensors'];
  const single = names.filter((name) => name.endsWith('.safetensors') && !name.includes('/'));
  return single.length === 1 ? single : null;
}

/** What has to be fetched beside a file: the other parts of a split GGUF file, in order. */
export function otherParts(file: string): readonly string[] {
  return (parseSplitName(file)?.parts ?? []).filter((part) => part !== file);
}

/** Why a repository without the weights of a checkpoint cannot be used, and what in it can. */
export function noWeightsError(repository: string, scheme: string, names: readonly string[]): AutoglmError {
  const ggufs = names.filter((name) => name.endsWith('.gguf'));
  if (ggufs.length > 0) {
    const shown = ggufs.slice(0, 20).map((name) => `${scheme}:${repository}:${name}`);
    return new AutoglmError('invalid_parameter', `${repository} holds ${ggufs.length} GGUF files`, {
      hint: `Name one: ${shown.join(', ')}${ggufs.length > shown.length ? ', ...' : ''}`,
      details: { repository, files: ggufs },
    });
  }
  const pickles = names.filter((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  if (pickles.length > 0) {
    return new AutoglmError('unsupported_model', `${repository} has its weights in ${pickles[0]} only`, {
      hint: 'Such files can run code when they are read; use a repository with .safetensors or .gguf files.',
      details: { repository, files: pickles },
    });
  }
  return new AutoglmError('unsupported_model', `${repository} has no complete set of .safetensors files`, {
    hint: 'Use a repository with model.safetensors, its shards with an index, or a .gguf file.',
    details: { repository, files: names.slice(0, 50) },
  });
}
