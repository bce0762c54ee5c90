import { join } from 'node:path';
import { readSmallFile, readSmallText } from './byte-source';
import type { JsonObject, TokenizerSource } from './checkpoint-types';

/** What the tokenizer classes of SentencePiece models name their files; the content of the first may be tiktoken ranks. */
export const MODEL_FILES = ['tokenizer.model', 'sentencepiece.bpe.model', 'spiece.model'] as const;

/** The largest published tokenizer.json takes 35 MB. */
const MAX_TOKENIZER_BYTES = 64 << 20;

/**
 * The tokenizer of a checkpoint directory; null when it has none. Of several files the one that says most is taken:
 * tokenizer.json, a SentencePiece model, vocab.json with merges.txt, vocab.txt. `readObject` reads a JSON file beside them.
 */
export async function readTokenizerFiles(
  directory: string,
  tokenizerConfig: JsonObject | null,
  readObject: (name: string) => Promise<JsonObject | null>,
  signal: AbortSignal | undefined,
): Promise<TokenizerSource | null> {
  const readText = (name: string) => readSmallText(join(directory, name), MAX_TOKENIZER_BYTES, signal);
  const specialTokensMap = await readObject('special_tokens_map.json');
  const tokenizerJson = await readText('tokenizer.json');
  if (tokenizerJson !== null) {
    return { kind: 'huggingface', tokenizerJson, tokenizerConfig, specialTokensMap };
  }
  const settings = { tokenizerConfig, specialTokensMap, addedTokens: await readObject('added_tokens.json') };
  for (const fileName of MODEL_FILES) {
    const content = await readSmallFile(join(directory, fileName), MAX_TOKENIZER_BYTES, signal);
    if (content !== null) return { kind: 'tokenizer-model', fileName, content, ...settings };
  }
  const vocabulary = await readText('vocab.json');
  const merges = vocabulary === null ? null : await readText('merges.txt');
  if (vocabulary !== null && merges !== null) return { kind: 'merges', vocabulary, merges, ...settings };
  const pieces = await readText('vocab.txt');
  return pieces === null ? null : { kind: 'word-list', pieces, ...settings };
}
