import type { DialectName } from './dialect';

interface Sign {
  readonly dialect: DialectName;
  /** Texts in a template, each of which is enough. */
  readonly inTemplate: readonly string[];
  /** Control tokens which together are enough where the template says nothing. */
  readonly inVocabulary: readonly string[] | null;
}

/** The most telling signs first: later ones are also found in what the earlier ones describe. */
const SIGNS: readonly Sign[] = [
  { dialect: 'glm4.5', inTemplate: ['/nothink', '{function-name}\n<arg_key>'], inVocabulary: null },
  { dialect: 'glm4.7', inTemplate: ['<arg_key>'], inVocabulary: ['<arg_key>', '<arg_value>'] },
  { dialect: 'qwen3-coder', inTemplate: ['<function='], inVocabulary: null },
  { dialect: 'mistral', inTemplate: ['[TOOL_CALLS]'], inVocabulary: ['[TOOL_CALLS]'] },
  { dialect: 'hermes', inTemplate: ['<tool_call>'], inVocabulary: null },
  {
    dialect: 'llama3',
    inTemplate: ['<|python_tag|>', 'Environment: ipython'],
    inVocabulary: ['<|python_tag|>'],
  },
  {
    dialect: 'glm4',
    inTemplate: ['<|observation|>', '[gMASK]<sop>'],
    inVocabulary: ['[gMASK]', '<sop>', '<|observation|>'],
  },
  { dialect: 'chatglm3', inTemplate: [], inVocabulary: ['[gMASK]', 'sop', '<|observation|>'] },
  { dialect: 'hermes', inTemplate: [], inVocabulary: ['<|im_start|>', '<|im_end|>'] },
];

/** How a model writes tool calls, as its template and then its control tokens show; null when neither does. */
export function detectDialect(template: string | null, controlTokens: readonly string[]): DialectName | null {
  const bySource =
    template === null
      ? undefined
      : SIGNS.find(({ inTemplate }) => inTemplate.some((text) => template.includes(text)));
  if (bySource !== undefined) return bySource.dialect;
  const tokens = new Set(controlTokens);
  const byToken = SIGNS.find(({ inVocabulary }) => inVocabulary?.every((token) => tokens.has(token)));
  return byToken?.dialect ?? null;
}
