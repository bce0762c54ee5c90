import type { TokenizerSource } from '../../model/checkpoint-types';
import { fileTokenizerJson } from './files/file-vocabulary';
import { ggufTokenizerJson } from './gguf-vocabulary';
import { huggingFaceTokenizerJson } from './huggingface-vocabulary';
import type { TokenizerJson } from './tokenizer-json';

/** Any stored vocabulary as a tokenizer.json object. */
export function tokenizerJsonOf(source: TokenizerSource): TokenizerJson {
  if (source.kind === 'gguf') return ggufTokenizerJson(source);
  if (source.kind === 'huggingface') return huggingFaceTokenizerJson(source);
  return fileTokenizerJson(source);
}
