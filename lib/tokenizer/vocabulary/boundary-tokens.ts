import { invalidModelFile, quoted, unsupportedModel } from '../../model/model-file-error';
import type { ComponentJson } from './tokenizer-json';

/** Token ids put before and after a text when special tokens are added. */
export interface BoundaryTokens {
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
}

const NONE: BoundaryTokens = { prefix: [], suffix: [] };

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
      const parts = (processor.processors as ComponentJson[]).map(boundaryTokensOf);
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

interface TemplateItem {
  readonly SpecialToken?: { readonly id: string };
  readonly Sequence?: { readonly id: string };
}

function fromTemplate(processor: ComponentJson): BoundaryTokens {
  const items = processor.single as readonly TemplateItem[];
  const special = processor.special_tokens as Readonly<Record<string, { readonly ids: readonly number[] }>>;
  const text = items.findIndex((item) => item.Sequence !== undefined);
  const idsOf = (part: readonly TemplateItem[]) =>
    part.flatMap((item) => {
      const name = item.SpecialToken?.id ?? '';
      const ids = special[name]?.ids;
      if (ids !== undefined) return ids;
      throw invalidModelFile({
        file: 'tokenizer.json',
        where: 'post_processor.special_tokens',
        expected: `the token ${quoted(name)} of the template`,
        found: 'nothing',
      });
    });
  return { prefix: idsOf(items.slice(0, text)), suffix: idsOf(items.slice(text + 1)) };
}

function pairId(processor: ComponentJson, key: 'cls' | 'sep'): number {
  const pair = processor[key];
  if (Array.isArray(pair) && Number.isInteger(pair[1])) return pair[1] as number;
  throw invalidModelFile({
    file: 'tokenizer.json',
    where: `post_processor.${key}`,
    expected: 'a token and its id',
    found: quoted(JSON.stringify(pair) ?? 'nothing'),
  });
}
