import {
  abortSignal,
  boolean,
  integer,
  invalidParameter,
  numberIn,
  oneOf,
  parseObject,
  text,
} from '../parameters';

/** One text, two of them, or the tokens of one. */
export type PooledInput =
  | { readonly text: string; readonly second: string | null }
  | { readonly tokens: Int32Array };

const MAX_INPUTS = 65_536;
const anyText = text(0, Number.MAX_SAFE_INTEGER);

const COMMON_OPTIONS = {
  truncate: boolean,
  priority: integer(-100, 100),
  timeout: numberIn(0, 2 ** 31 - 1, { above: true }),
  signal: abortSignal,
};
const CLASSIFY_OPTIONS = { ...COMMON_OPTIONS, raw: boolean };
const RERANK_OPTIONS = { ...CLASSIFY_OPTIONS, topN: integer(1, MAX_INPUTS) };

export const parseEmbedOptions = (options: unknown, embeddingSize: number) =>
  parseObject('options', options, {
    ...COMMON_OPTIONS,
    dimensions: integer(1, embeddingSize),
    normalize: boolean,
    pooling: oneOf('first', 'mean', 'last'),
    prompt: text(1, 256),
  });

export const parseClassifyOptions = (options: unknown) => parseObject('options', options, CLASSIFY_OPTIONS);
export const parseRerankOptions = (options: unknown) => parseObject('options', options, RERANK_OPTIONS);

export interface TextRules {
  /** Token ids below it are taken too; null for text only. */
  readonly vocabSize: number | null;
  readonly takesPairs: boolean;
}

export function parseTexts(value: unknown, path: string, rules: TextRules): readonly PooledInput[] {
  if (typeof value === 'string') return [parseInput(value, path, rules)];
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_INPUTS) {
    throw invalidParameter(path, `${allowed(rules)}, or an array of 1..${MAX_INPUTS} of them`, value);
  }
  return value.map((item, i) => parseInput(item, `${path}[${i}]`, rules));
}

const allowed = ({ vocabSize, takesPairs }: TextRules): string =>
  `a string${vocabSize === null ? '' : `, token ids in 0..${vocabSize - 1}`}${takesPairs ? ', a pair of strings' : ''}`;

function parseInput(value: unknown, path: string, rules: TextRules): PooledInput {
  if (anyText.accepts(value)) return { text: value, second: null };
  const isList = Array.isArray(value) || value instanceof Int32Array;
  if (rules.takesPairs && isList && value.length === 2) {
    const [first, second] = value;
    if (anyText.accepts(first) && anyText.accepts(second)) return { text: first, second };
  }
  const { vocabSize } = rules;
  if (vocabSize !== null && isList && value.length > 0) {
    const isId = (id: unknown): boolean =>
      Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
    if ((value as readonly unknown[]).every(isId)) {
      return { tokens: Int32Array.from(value as readonly number[]) };
    }
  }
  throw invalidParameter(path, allowed(rules), value);
}
