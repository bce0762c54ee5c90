import { unsupportedModel } from '../../model/model-file-error';
import { componentList } from '../stages/normalizer';
import { boundaryTokensOf, templateParts } from './boundary-tokens';
import type { ComponentJson } from './tokenizer-json';

/** Token ids put around and between two texts. */
export interface PairTemplate {
  readonly prefix: readonly number[];
  readonly between: readonly number[];
  readonly suffix: readonly number[];
  /** The second text and what follows it have token type 1. */
  readonly hasSecondType: boolean;
}

const PLAIN: PairTemplate = { prefix: [], between: [], suffix: [], hasSecondType: true };

/** What a tokenizer.json post-processor makes of a pair; null when it has no template for one. */
export function pairTemplateOf(processor: ComponentJson | null): PairTemplate | null {
  switch (processor?.type) {
    case undefined:
    case 'ByteLevel':
      return PLAIN;
    case 'TemplateProcessing':
      return Array.isArray(processor.pair) && processor.pair.length > 0 ? fromTemplate(processor) : null;
    case 'BertProcessing': {
      const { prefix, suffix } = boundaryTokensOf(processor);
      return { prefix, between: suffix, suffix, hasSecondType: true };
    }
    case 'RobertaProcessing': {
      const { prefix, suffix } = boundaryTokensOf(processor);
      return { prefix, between: [...suffix, ...suffix], suffix, hasSecondType: false };
    }
    case 'Sequence': {
      const [first, ...more] = componentList(processor, 'processors').filter(
        ({ type }) => type !== 'ByteLevel',
      );
      return more.length === 0 ? pairTemplateOf(first ?? null) : null;
    }
    default:
      return null;
  }
}

function fromTemplate(processor: ComponentJson): PairTemplate {
  const [prefix, between, suffix, ...more] = templateParts(processor, 'pair');
  const isInOrder = prefix?.next?.sequence === 'A' && between?.next?.sequence === 'B' && more.length === 0;
  const types = [prefix, between, suffix].map((part) => part?.types ?? []);
  const second = between?.next?.type;
  const isUniform = (values: readonly (number | undefined)[], type: number) =>
    values.every((value) => value === type);
  const isKnown =
    isUniform([prefix?.next?.type, ...(types[0] ?? []), ...(types[1] ?? [])], 0) &&
    (second === 0 || second === 1) &&
    isUniform(types[2] ?? [], second);
  if (prefix === undefined || between === undefined || suffix === undefined || !isInOrder || !isKnown) {
    throw unsupportedModel('tokenizer.json: post_processor', 'a pair template of another shape', [
      'first text, then second text, each with one token type',
    ]);
  }
  return { prefix: prefix.ids, between: between.ids, suffix: suffix.ids, hasSecondType: second === 1 };
}
