import type { Checkpoint, CheckpointWarning, StoredTensor } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import { ConfigSection } from '../config-section';
import { quoted, unsupportedModel } from '../model-file-error';

/** A model that also sees images around one that reads text, whose settings lie under `text_config`. */
interface Wrapper {
  readonly modelType: string;
  readonly architecture: string;
  /** Which family's `model_type` a text part is, by its own; the first where it has none. */
  readonly textTypes: ReadonlyMap<string, string>;
}

const asTheyAre = (...types: readonly string[]) => new Map(types.map((type) => [type, type]));

export const WRAPPERS: readonly Wrapper[] = [
  {
    modelType: 'gemma3',
    architecture: 'Gemma3ForConditionalGeneration',
    textTypes: asTheyAre('gemma3_text'),
  },
  {
    modelType: 'mistral3',
    architecture: 'Mistral3ForConditionalGeneration',
    textTypes: asTheyAre('mistral', 'llama'),
  },
  {
    modelType: 'llava',
    architecture: 'LlavaForConditionalGeneration',
    textTypes: asTheyAre('llama', 'mistral', 'qwen2'),
  },
  {
    modelType: 'glm4v',
    architecture: 'Glm4vForConditionalGeneration',
    // Its three axes of positions are the same for text.
    textTypes: new Map([['glm4v_text', 'glm4']]),
  },
];

/** The text part of a model that sees, as if it had been saved alone. */
export interface TextPart {
  readonly checkpoint: Checkpoint;
  readonly config: ConfigReader;
  /** `model_type` of the family that it is of. */
  readonly modelType: string;
  readonly warning: CheckpointWarning;
}

/** The settings of the text part. Whether its head is tied is said in one of two places, or both and differently. */
class TextConfig extends ConfigSection {
  readonly #hasHead: boolean;

  constructor(whole: ConfigReader, hasHead: boolean) {
    super(whole, 'text_config');
    this.#hasHead = hasHead;
  }

  override boolean(key: string): boolean | null {
    return key === 'tie_word_embeddings' ? !this.#hasHead : super.boolean(key);
  }
}

/** Null for models that are text alone. */
export function textPartOf(checkpoint: Checkpoint, config: ConfigReader): TextPart | null {
  const wrapper = WRAPPERS.find(({ modelType }) => modelType === config.string('model_type'));
  if (wrapper === undefined || !config.has('text_config')) return null;
  const [architecture = wrapper.architecture] = config.strings('architectures') ?? [];
  if (architecture !== wrapper.architecture) {
    throw unsupportedModel(config.file, `architecture ${quoted(architecture)}`, [wrapper.architecture]);
  }
  const stated = config.string('text_config.model_type') ?? [...wrapper.textTypes.keys()][0] ?? '';
  const modelType = wrapper.textTypes.get(stated);
  if (modelType === undefined) {
    const supported = [...wrapper.textTypes.keys()];
    throw unsupportedModel(config.file, `text_config.model_type ${quoted(stated)}`, supported);
  }
  const tensors = new Map<string, StoredTensor>();
  const others: string[] = [];
  for (const [name, tensor] of checkpoint.tensors) {
    const inner = innerName(name);
    if (inner === null) others.push(name);
    else tensors.set(inner, tensor);
  }
  return {
    checkpoint: { ...checkpoint, tensors },
    config: new TextConfig(config, tensors.has('lm_head.weight')),
    modelType,
    warning: { code: 'text_only', message: `${checkpoint.path}: ${textOnly(others)}` },
  };
}

/** Since transformers 4.52 the head is beside both parts; before, the text part had its own. */
const PREFIXES = [
  ['model.language_model.', 'model.'],
  ['language_model.', ''],
  ['lm_head.', 'lm_head.'],
] as const;

/** The name of a tensor in a model of text alone; null for those of the eyes. */
function innerName(name: string): string | null {
  const found = PREFIXES.find(([prefix]) => name.startsWith(prefix));
  return found === undefined ? null : found[1] + name.slice(found[0].length);
}

function textOnly(tensors: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of tensors) {
    const module = name.replace(/^model\./, '').split('.')[0] ?? name;
    counts.set(module, (counts.get(module) ?? 0) + 1);
  }
  const listed = [...counts].slice(0, 8).map(([module, count]) => `${module} (${count} tensors)`);
  const unused = listed.length === 0 ? '' : `; not used: ${listed.join(', ')}`;
  return `the model's eyes are not loaded, it reads text only${unused}`;
}
