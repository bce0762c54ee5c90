import type { Checkpoint } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import { quoted, unsupportedModel } from '../model-file-error';
import type { DecoderDescription, Family } from './family';
import { glm } from './glm';
import { glm4 } from './glm4';
import { llama } from './llama';
import { qwen2 } from './qwen2';
import { qwen3 } from './qwen3';

const FAMILIES: readonly Family[] = [llama, qwen2, qwen3, glm, glm4];

/** Finds the family of a checkpoint and lets it describe the decoder. Reads no file. */
export function describeDecoder(checkpoint: Checkpoint): DecoderDescription {
  const description = describeWithFamily(checkpoint);
  const { vocabSize } = description.spec;
  const outside = checkpoint.eosTokenIds.find((id) => id >= vocabSize);
  if (outside === undefined) return description;
  const expected = `ids below the vocabulary size ${vocabSize}`;
  throw checkpoint.config.values.fault('eos_token_id', expected, String(outside));
}

function describeWithFamily(checkpoint: Checkpoint): DecoderDescription {
  const { config } = checkpoint;
  if (config.kind === 'huggingface') {
    return familyOfConfig(config.values).fromHuggingface(checkpoint, config.values);
  }
  const { architecture, values } = config;
  const family = FAMILIES.find(({ ggufArchitecture }) => ggufArchitecture === architecture);
  if (family === undefined) {
    const supported = FAMILIES.map(({ ggufArchitecture }) => ggufArchitecture);
    throw unsupportedModel(values.file, `GGUF architecture ${quoted(architecture)}`, supported);
  }
  return family.fromGguf(checkpoint, values);
}

function familyOfConfig(config: ConfigReader): Family {
  const modelType = config.string('model_type');
  if (modelType === null) throw config.fault('model_type', 'the name of a model family', 'nothing');
  const family = FAMILIES.find((candidate) => candidate.modelType === modelType);
  if (family === undefined) {
    const supported = FAMILIES.map((candidate) => candidate.modelType);
    throw unsupportedModel(config.file, `model_type ${quoted(modelType)}`, supported);
  }
  const [architecture] = config.strings('architectures') ?? [];
  if (architecture !== undefined && architecture !== family.architecture) {
    const supported = FAMILIES.map((candidate) => candidate.architecture);
    throw unsupportedModel(config.file, `architecture ${quoted(architecture)}`, supported);
  }
  return family;
}
