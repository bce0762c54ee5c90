import type { Checkpoint } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import type { GgufMetadata } from '../gguf/metadata';
import { describeEncoder, type EncoderTensors } from './encoder';
import type { DecoderDescription, Family } from './family';
import { readGgufEncoder, readHuggingfaceEncoder } from './settings/encoder-settings';

/** `prefix`: checkpoints with a head put one before the encoder's names. */
export function huggingfaceEncoderTensors(prefix: string): EncoderTensors {
  return {
    embedding: `${prefix}embeddings.word_embeddings`,
    positions: `${prefix}embeddings.position_embeddings`,
    tokenTypes: `${prefix}embeddings.token_type_embeddings`,
    embeddingNorm: `${prefix}embeddings.LayerNorm`,
    layerPrefix: (layer) => `${prefix}encoder.layer.${layer}.`,
    q: 'attention.self.query',
    k: 'attention.self.key',
    v: 'attention.self.value',
    o: 'attention.output.dense',
    attentionNorm: 'attention.output.LayerNorm',
    up: 'intermediate.dense',
    down: 'output.dense',
    mlpNorm: 'output.LayerNorm',
  };
}

const GGUF_TENSORS: EncoderTensors = {
  embedding: 'token_embd',
  positions: 'position_embd',
  tokenTypes: 'token_types',
  embeddingNorm: 'token_embd_norm',
  layerPrefix: (layer) => `blk.${layer}.`,
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  attentionNorm: 'attn_output_norm',
  up: 'ffn_up',
  down: 'ffn_down',
  mlpNorm: 'layer_output_norm',
};

/** BERT in either format; GGUF's `bert` covers RoBERTa and XLM-R too. */
export const bert: Family = {
  name: 'bert',
  modelTypes: ['bert'],
  architectures: ['BertModel', 'BertForMaskedLM'],
  ggufArchitectures: ['bert'],

  fromHuggingface(checkpoint: Checkpoint, config: ConfigReader): DecoderDescription {
    const prefix = checkpoint.tensors.has('bert.embeddings.word_embeddings.weight') ? 'bert.' : '';
    const settings = readHuggingfaceEncoder(config, 0);
    const name = config.string('_name_or_path');
    return describeEncoder(checkpoint, settings, huggingfaceEncoderTensors(prefix), this.name, name);
  },

  fromGguf(checkpoint: Checkpoint, metadata: GgufMetadata, architecture: string): DecoderDescription {
    const settings = readGgufEncoder(checkpoint, metadata, architecture);
    const name = metadata.string('general.name');
    return describeEncoder(checkpoint, settings, GGUF_TENSORS, this.name, name);
  },
};
