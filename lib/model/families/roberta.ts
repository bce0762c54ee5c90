import { type ConfigReader, requireInteger } from '../config-reader';
import { bert, huggingfaceEncoderTensors } from './bert';
import { describeEncoder } from './encoder';
import type { Family } from './family';
import { BOUNDS } from './settings/decoder-settings';
import { readHuggingfaceEncoder } from './settings/encoder-settings';

/** RoBERTa and XLM-R. Positions count from the padding token's id + 1, so as many stored rows are never used. */
export const roberta: Family = {
  name: 'roberta',
  modelTypes: ['roberta', 'xlm-roberta'],
  architectures: ['RobertaModel', 'RobertaForMaskedLM', 'XLMRobertaModel', 'XLMRobertaForMaskedLM'],
  ggufArchitectures: [],

  fromHuggingface(checkpoint, config) {
    const prefix = checkpoint.tensors.has('roberta.embeddings.word_embeddings.weight') ? 'roberta.' : '';
    const settings = readHuggingfaceEncoder(config, paddingIdOf(config) + 1);
    const tensors = huggingfaceEncoderTensors(prefix);
    return describeEncoder(checkpoint, settings, tensors, this.name, config.string('_name_or_path'));
  },

  /** GGUF files of these models say `bert`. */
  fromGguf: bert.fromGguf,
};

function paddingIdOf(config: ConfigReader): number {
  return config.has('pad_token_id') ? requireInteger(config, 'pad_token_id', 0, BOUNDS.contextLength) : 1;
}
