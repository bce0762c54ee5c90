import { invalidModelFile, quoted, unsupportedModel } from '../../model/model-file-error';
import { componentList } from '../stages/normalizer';
import { isObject, isTokenId } from './model-json';
import type { AddedTokenJson, ComponentJson } from './tokenizer-json';

/** Token ids put before and after a text when special tokens are added. */
export interface BoundaryTokens {
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
}

const NONE: BoundaryTokens = { prefix: [], suffix: [] };

/**
 * A post-processor that puts a token before and one after a text; null when there is neither. With a separator, a pair has
 * it between the end of its first text and its second one, and one token type, as RoBERTa's do.
 */
export function textTemplate(
  first: AddedTokenJson | readonly AddedTokenJson[] | undefined,
  last: AddedTokenJson | undefined,
  separator?: AddedTokenJson,
): ComponentJson | null {
  const before = first === undefined ? [] : [first].flat();
  const after = last === undefined ? [] : [last];
  const between = separator === undefined ? [] : [separator];
  if (before.length + after.length === 0) return null;
  const special_tokens: Record<string, { id: string; ids: number[] }> = Object.create(null);
  for (const { id, content } of [...before, ...after, ...between])
    special_tokens[content] = { id: content, ids: [id] };
  const item = ({ content }: AddedTokenJson) => ({ SpecialToken: { id: content, type_id: 0 } });
  const single = [...before.map(item), { Sequence: { id: 'A', type_id: 0 } }, ...after.map(item)];
  const type_id = separator === undefined ? 1 : 0;
  const secondItem = ({ content }: AddedTokenJson) => ({ SpecialToken: { id: content, type_id } });
  const second = [{ Sequence: { id: 'B', type_id } }, ...after.map(secondItem)];
  const pair = [...single, ...between.map(item), ...second];
  return { type: 'TemplateProcessing', single, pair, special_tokens };
}

/** What a tokenizer.json post-processor puts around a single text. */
export function boundaryTokensOf(processor: ComponentJson | null): BoundaryTokens {
  switch (processor?.type) {
    case undefined:
    case 'ByteLevel': // moves offsets only
      return NONE;
    case 'TemplateProcessing':
      return fromTemplate(processor);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { prefix: [pairId(processor, 'cls')], suffix: [pairId(processor, 'sep')] };
    case 'Sequence': {
      // Each part wraps what the parts before it made.
      const parts = componentList(processor, 'processors').map(boundaryTokensOf);
      return {
        prefix: parts.toReversed().flatMap(({ prefix }) => prefix),
        suffix: parts.flatMap(({ suffix }) => suffix),
      };
    }
    default:
      throw unsupportedModel(
        'tokenizer.json: post_processor',
        `a post-processor of type ${quoted(processor?.type ?? '')}`,
        ['TemplateProcessing', 'ByteLevel', 'BertProcessing', 'RobertaProcessing', 'Sequence'],
      );
  }
}

function fault(where: string, expected: string, found: string) {
  return invalidModelFile({ file: 'tokenizer.json', where: `post_processor.${where}`, expected, found });
}

function fromTemplate(processor: ComponentJson): BoundaryTokens {
  const [prefix, ...rest] = templateParts(processor, 'single');
  if (prefix === undefined || rest.length === 0) throw fault('single', 'a place for the text', 'none');
  return { prefix: prefix.ids, suffix: rest.flatMap(({ ids }) => ids) };
}

/** Tokens of a template up to the next text. */
export interface TemplatePart {
  readonly ids: readonly number[];
  /** Token type of each of `ids`. */
  readonly types: readonly number[];
  /** The text that follows; null for the last part. */
  readonly next: { readonly sequence: string; readonly type: number } | null;
}

/** A template cut at the places of its texts. */
export function templateParts(processor: ComponentJson, key: 'single' | 'pair'): readonly TemplatePart[] {
  const { [key]: items, special_tokens: special } = processor;
  if (!Array.isArray(items) || !items.every(isObject)) throw fault(key, 'a list of objects', 'another value');
  const parts: TemplatePart[] = [];
  let ids: number[] = [];
  let types: number[] = [];
  for (const item of items) {
    if (isObject(item.Sequence)) {
      const next = { sequence: String(item.Sequence.id), type: Number(item.Sequence.type_id ?? 0) };
      parts.push({ ids, types, next });
      [ids, types] = [[], []];
      continue;
    }
    const token = isObject(item.SpecialToken) ? item.SpecialToken : {};
    const added = idsOf(special, token.id);
    ids.push(...added);
    types.push(...added.map(() => Number(token.type_id ?? 0)));
  }
  return [...parts, { ids, types, next: null }];
}

function idsOf(special: unknown, token: unknown): readonly number[] {
  const entry = isObject(special) && typeof token === 'string' ? special[token] : undefined;
  const ids = isObject(entry) ? entry.ids : undefined;
  if (Array.isArray(ids) && ids.every(isTokenId)) return ids;
  throw fault('special_tokens', `the token ${quoted(String(token))} of the template`, 'nothing');
}

function pairId(processor: ComponentJson, key: 'cls' | 'sep'): number {
  const pair = processor[key];
  if (Array.isArray(pair) && isTokenId(pair[1])) return pair[1];
  throw fault(key, 'a token and its id', quoted(JSON.stringify(pair) ?? 'nothing'));
}
