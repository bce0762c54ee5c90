import type { Checkpoint } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import { quoted, unsupportedModel } from '../model-file-error';
import { bert } from './bert';
import { chatglm } from './chatglm';
import type { DecoderDescription, Family } from './family';
import { gemma } from './gemma';
import { gemma2 } from './gemma2';
import { gemma3 } from './gemma3';
import { glm } from './glm';
import { glm4 } from './glm4';
import { glm4Moe } from './glm4-moe';
import { glm4MoeLite } from './glm4-moe-lite';
import { gpt2 } from './gpt2';
import { llama } from './llama';
import { mistral } from './mistral';
import { mixtral } from './mixtral';
import { phi3 } from './phi3';
import { type ModelDescription, withPooledOutput } from './pooled-output';
import { qwen2 } from './qwen2';
import { qwen2Moe } from './qwen2-moe';
import { qwen3 } from './qwen3';
import { qwen3Moe } from './qwen3-moe';
import { roberta } from './roberta';
import { smollm3 } from './smollm3';
import { textPartOf, WRAPPERS } from './text-part';

/** Mixtral before Llama: it takes those files of their common architecture that have experts. */
const FAMILIES: readonly Family[] = [
  mixtral,
  llama,
  mistral,
  smollm3,
  qwen2,
  qwen2Moe,
  qwen3,
  qwen3Moe,
  gemma,
  gemma2,
  gemma3,
  phi3,
  gpt2,
  chatglm,
  glm,
  glm4,
  glm4Moe,
  glm4MoeLite,
  bert,
  roberta,
];

/** Finds the family of a checkpoint and lets it describe the decoder. Reads no file. */
export function describeDecoder(opened: Checkpoint): ModelDescription {
  const checkpoint = withModelPrefix(opened);
  const description = withPooledOutput(checkpoint, describeWithFamily(checkpoint));
  const { vocabSize } = description.spec;
  const outside = checkpoint.eosTokenIds.find((id) => id >= vocabSize);
  if (outside === undefined) return description;
  const expected = `ids below the vocabulary size ${vocabSize}`;
  throw checkpoint.config.values.fault('eos_token_id', expected, String(outside));
}

function describeWithFamily(checkpoint: Checkpoint): DecoderDescription {
  const { config } = checkpoint;
  if (config.kind === 'huggingface') {
    const part = textPartOf(checkpoint, config.values);
    if (part === null) return familyOfConfig(config.values).fromHuggingface(checkpoint, config.values);
    const family = FAMILIES.find(({ modelTypes }) => modelTypes.includes(part.modelType)) as Family;
    const { info, ...described } = family.fromHuggingface(part.checkpoint, part.config);
    return { ...described, info: { ...info, warnings: [...info.warnings, part.warning] } };
  }
  const { architecture, values } = config;
  const family = FAMILIES.find(
    ({ ggufArchitectures, claimsGguf }) =>
      ggufArchitectures.includes(architecture) && (claimsGguf?.(values) ?? true),
  );
  if (family === undefined) {
    const supported = [...new Set(FAMILIES.flatMap(({ ggufArchitectures }) => ggufArchitectures))];
    throw unsupportedModel(values.file, `GGUF architecture ${quoted(architecture)}`, supported);
  }
  return family.fromGguf(checkpoint, values, architecture);
}

function familyOfConfig(config: ConfigReader): Family {
  const modelType = config.string('model_type');
  if (modelType === null) throw config.fault('model_type', 'the name of a model family', 'nothing');
  const family = FAMILIES.find(({ modelTypes }) => modelTypes.includes(modelType));
  if (family === undefined) {
    const wrappers = WRAPPERS.map((wrapper) => wrapper.modelType);
    const supported = [...FAMILIES.flatMap(({ modelTypes }) => modelTypes), ...wrappers];
    throw unsupportedModel(config.file, `model_type ${quoted(modelType)}`, supported);
  }
  const [architecture] = config.strings('architectures') ?? [];
  if (architecture !== undefined && !isOfFamily(architecture, family)) {
    const supported = FAMILIES.flatMap(({ architectures }) => architectures);
    throw unsupportedModel(config.file, `architecture ${quoted(architecture)}`, supported);
  }
  return family;
}

const LANGUAGE_MODEL = /(ForCausalLM|LMHeadModel)$/;

/** An architecture of the family, or its layers without a head or with one for whole texts. */
function isOfFamily(architecture: string, { architectures }: Family): boolean {
  return architectures.some((own) => {
    const stem = own.replace(LANGUAGE_MODEL, '').replace(/Model$/, '');
    const others = [own, `${stem}ForSequenceClassification`];
    if (LANGUAGE_MODEL.test(own)) others.push(`${stem}Model`);
    return others.includes(architecture);
  });
}

/** A decoder saved without a head (Qwen3-Embedding) leaves out the first part of its tensors' names. */
function withModelPrefix(checkpoint: Checkpoint): Checkpoint {
  const { tensors, config } = checkpoint;
  if (config.kind !== 'huggingface' || !tensors.has('embed_tokens.weight')) return checkpoint;
  const renamed = [...tensors].map(([name, tensor]) => {
    const isModule = name.startsWith('score.') || name.startsWith('lm_head.') || name.includes('/');
    return [isModule ? name : `model.${name}`, tensor] as const;
  });
  return { ...checkpoint, tensors: new Map(renamed) };
}
