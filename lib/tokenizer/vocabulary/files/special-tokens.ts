import type { JsonObject, JsonValue } from '../../../model/checkpoint-types';
import { invalidModelFile, quoted } from '../../../model/model-file-error';
import { isObject, isTokenId } from '../model-json';
import type { AddedTokenJson } from '../tokenizer-json';
import { MAX_TOKEN_ID } from '../vocabulary-limits';

/**
 * Tokens that files beside a vocabulary add to it: `added_tokens_decoder` of tokenizer_config.json, else
 * added_tokens.json, whose entries are special where a named token has that text. Later ids of `known` give way.
 */
export function withAddedTokens(
  known: readonly AddedTokenJson[],
  config: JsonObject | null,
  addedTokens: JsonObject | null,
  isNamed: (content: string) => boolean,
): readonly AddedTokenJson[] {
  const byId = new Map(known.map((token) => [token.id, token]));
  for (const [content, id] of Object.entries(addedTokens ?? {})) {
    if (!isTokenId(id)) throw fault('added_tokens.json', content, id);
    byId.set(id, { id, content, special: isNamed(content) });
  }
  const decoder = config?.added_tokens_decoder ?? {};
  if (!isObject(decoder)) throw fault('tokenizer_config.json', 'added_tokens_decoder', null);
  for (const [key, value] of Object.entries(decoder)) {
    const id = /^\d{1,8}$/.test(key) ? Number(key) : -1;
    if (!isTokenId(id)) throw fault('tokenizer_config.json: added_tokens_decoder', key, key);
    if (!isObject(value) || typeof value.content !== 'string') {
      throw fault('tokenizer_config.json: added_tokens_decoder', key, null);
    }
    const flag = (name: string) => value[name] === true;
    byId.set(id, {
      id,
      content: value.content,
      single_word: flag('single_word'),
      lstrip: flag('lstrip'),
      rstrip: flag('rstrip'),
      special: flag('special'),
    });
  }
  return [...byId.values()].sort((a, b) => a.id - b.id);
}

function fault(file: string, where: string, found: JsonValue | undefined) {
  return invalidModelFile({
    file,
    where: quoted(where),
    expected: `a token and its id in 0..${MAX_TOKEN_ID}`,
    found: quoted(String(found)),
  });
}

/** The special tokens that GLM-4's own tokenizer code puts after its ranks. */
export const GLM4_SPECIAL_TOKENS: readonly string[] = [
  '<|endoftext|>',
  '[MASK]',
  '[gMASK]',
  '[sMASK]',
  '<sop>',
  '<eop>',
  '<|system|>',
  '<|user|>',
  '<|assistant|>',
  '<|observation|>',
  '<|begin_of_image|>',
  '<|end_of_image|>',
  '<|begin_of_video|>',
  '<|end_of_video|>',
];

/** The special tokens that ChatGLM3's own tokenizer code puts after its pieces. */
export const CHATGLM3_SPECIAL_TOKENS: readonly string[] = [
  '[MASK]',
  '[gMASK]',
  '[sMASK]',
  'sop',
  'eop',
  '<|system|>',
  '<|user|>',
  '<|assistant|>',
  '<|observation|>',
];

export function consecutiveTokens(contents: readonly string[], firstId: number): readonly AddedTokenJson[] {
  return contents.map((content, i) => ({ id: firstId + i, content, special: true }));
}
