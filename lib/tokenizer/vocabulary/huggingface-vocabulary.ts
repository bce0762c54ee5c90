import type { HuggingFaceTokenizerSource } from '../../model/checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../../model/model-file-error';
import { supportedNormalizer, supportedPreTokenizer } from './component-support';
import type { AddedTokenJson, BpeModelJson, ComponentJson, TokenizerJson } from './tokenizer-json';

const FILE = 'tokenizer.json';
/** Ids index flat tables, so a hostile one must not ask for gigabytes. The largest vocabularies have about 300,000. */
const MAX_TOKEN_ID = 4_194_303;

/** Checks a tokenizer.json and brings it to the form this package reads. */
export function huggingFaceTokenizerJson(source: HuggingFaceTokenizerSource): TokenizerJson {
  const root = parseObject(source.tokenizerJson);
  return {
    added_tokens: readAddedTokens(root.added_tokens),
    normalizer: supportedNormalizer(component(root, 'normalizer')),
    pre_tokenizer: supportedPreTokenizer(component(root, 'pre_tokenizer')),
    post_processor: component(root, 'post_processor'),
    decoder: component(root, 'decoder'),
    model: readModel(root.model),
  };
}

type Untrusted = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Untrusted {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseObject(text: string): Untrusted {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw fault('the file', 'JSON', (cause as Error).message, cause);
  }
  if (!isObject(value)) throw fault('the file', 'a JSON object', describe(value));
  return value;
}

function component(root: Untrusted, key: string): ComponentJson | null {
  const value = root[key];
  if (value === null || value === undefined) return null;
  if (!isObject(value) || typeof value.type !== 'string') {
    throw fault(key, 'an object with a type', describe(value));
  }
  return value as ComponentJson;
}

function readAddedTokens(value: unknown): AddedTokenJson[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw fault('added_tokens', 'an array', describe(value));
  return value.map((token, i) => {
    if (!isObject(token) || typeof token.content !== 'string' || !isTokenId(token.id)) {
      throw fault(
        `added_tokens[${i}]`,
        `an object with content and an id in 0..${MAX_TOKEN_ID}`,
        describe(token),
      );
    }
    return token as unknown as AddedTokenJson;
  });
}

function readModel(value: unknown): BpeModelJson {
  if (!isObject(value)) throw fault('model', 'an object', describe(value));
  // Files written before the type was recorded are recognised by their merges.
  const type = value.type ?? (Array.isArray(value.merges) ? 'BPE' : 'unknown');
  if (type !== 'BPE') throw unsupportedModel(FILE, `a model of type ${quoted(String(type))}`, ['BPE']);
  refuseSetting(value, 'dropout');
  refuseSetting(value, 'continuing_subword_prefix');
  refuseSetting(value, 'end_of_word_suffix');
  const unknown = value.unk_token ?? null;
  if (unknown !== null && typeof unknown !== 'string')
    throw fault('model.unk_token', 'text', describe(unknown));
  const vocab = readVocabulary(value.vocab);
  return {
    type: 'BPE',
    vocab,
    merges: readMerges(value.merges),
    unk_token: unknown,
    fuse_unk: value.fuse_unk === true,
    byte_fallback: value.byte_fallback === true,
    ignore_merges: value.ignore_merges === true,
  };
}

function readVocabulary(value: unknown): Map<string, number> {
  if (!isObject(value)) throw fault('model.vocab', 'an object', describe(value));
  const vocab = new Map<string, number>();
  const isTaken = new Uint8Array(MAX_TOKEN_ID + 1);
  for (const [token, id] of Object.entries(value)) {
    if (!isTokenId(id)) {
      throw fault(`model.vocab[${quoted(token)}]`, `a token id in 0..${MAX_TOKEN_ID}`, describe(id));
    }
    if (isTaken[id] === 1) {
      throw fault(`model.vocab[${quoted(token)}]`, 'ids that differ', `${id}, which another token has too`);
    }
    isTaken[id] = 1;
    vocab.set(token, id);
  }
  return vocab;
}

function readMerges(value: unknown): [string, string][] {
  if (!Array.isArray(value)) throw fault('model.merges', 'an array', describe(value));
  return value.map((merge: unknown, i) => {
    const pair = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((piece) => typeof piece !== 'string')) {
      throw fault(`model.merges[${i}]`, 'a pair of pieces', describe(merge));
    }
    return pair as [string, string];
  });
}

function refuseSetting(model: Untrusted, key: string): void {
  const value = model[key];
  if (value === undefined || value === null || value === '' || value === 0) return;
  throw unsupportedModel(FILE, `model.${key} = ${quoted(String(value))}`, [`a model without ${key}`]);
}

function isTokenId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_TOKEN_ID;
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  return quoted(JSON.stringify(value) ?? String(value));
}

function fault(where: string, expected: string, found: string, cause?: unknown) {
  return invalidModelFile({ file: FILE, where, expected, found, cause });
}
