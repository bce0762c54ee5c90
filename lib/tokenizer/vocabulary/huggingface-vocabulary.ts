import type { HuggingFaceTokenizerSource } from '../../model/checkpoint-types';
import { fault, isObject, isTokenId, readModel, type Untrusted } from './model-json';
import type { AddedTokenJson, ComponentJson, TokenizerJson } from './tokenizer-json';
import { MAX_TOKEN_ID } from './vocabulary-limits';

/** Checks a tokenizer.json and brings it to the form this package reads. */
export function huggingFaceTokenizerJson(source: HuggingFaceTokenizerSource): TokenizerJson {
  const root = parseObject(source.tokenizerJson);
  return {
    added_tokens: readAddedTokens(root.added_tokens),
    normalizer: component(root, 'normalizer'),
    pre_tokenizer: component(root, 'pre_tokenizer'),
    post_processor: component(root, 'post_processor'),
    decoder: component(root, 'decoder'),
    model: readModel(root.model),
  };
}

function parseObject(text: string): Untrusted {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw fault('the file', 'JSON', (cause as Error).message, cause);
  }
  if (!isObject(value)) throw fault('the file', 'a JSON object', value);
  return value;
}

/** Components nest, and each level is read by a call. */
const MAX_DEPTH = 16;
/** Published files have up to a dozen. Each may hold a pattern, whose tables take memory. */
const MAX_COMPONENTS = 64;

function component(root: Untrusted, key: string): ComponentJson | null {
  const value = root[key];
  if (value === null || value === undefined) return null;
  if (!isObject(value) || typeof value.type !== 'string') throw fault(key, 'an object with a type', value);
  const { depth, numComponents } = measure(value, 0);
  if (depth > MAX_DEPTH) throw fault(key, `objects at most ${MAX_DEPTH} deep`, 'deeper ones');
  if (numComponents > MAX_COMPONENTS) throw fault(key, `at most ${MAX_COMPONENTS} components`, numComponents);
  return value as ComponentJson;
}

function measure(value: unknown, depth: number): { readonly depth: number; readonly numComponents: number } {
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return { depth, numComponents: 0 };
  let deepest = depth;
  let numComponents = isObject(value) && typeof value.type === 'string' ? 1 : 0;
  for (const part of Object.values(value)) {
    const inner = measure(part, depth + 1);
    deepest = Math.max(deepest, inner.depth);
    numComponents += inner.numComponents;
  }
  return { depth: deepest, numComponents };
}

function readAddedTokens(value: unknown): AddedTokenJson[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw fault('added_tokens', 'an array', value);
  return value.map((token: unknown, i) => {
    if (!isObject(token) || typeof token.content !== 'string' || !isTokenId(token.id)) {
      throw fault(`added_tokens[${i}]`, `an object with content and an id in 0..${MAX_TOKEN_ID}`, token);
    }
    const { id, content } = token;
    const flag = (key: string) => token[key] === true;
    return {
      id,
      content,
      single_word: flag('single_word'),
      lstrip: flag('lstrip'),
      rstrip: flag('rstrip'),
      normalized: flag('normalized'),
      special: flag('special'),
    };
  });
}
