import { quoted, unsupportedModel } from '../../model/model-file-error';
import { BYTES_TO_ALPHABET, type ComponentJson, GPT2_WORDS, splitOn } from './tokenizer-json';

/** What one value of `tokenizer.ggml.pre` means. */
export interface PreTokenizerRules {
  /** Cuts made one after the other. */
  readonly patterns: readonly string[];
  readonly ignoreMerges: boolean;
  /** Used when the file has no `add_bos_token`. */
  readonly addsBos: boolean;
}

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const WORDS = '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+';
const SPACES = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const MARKS_AND_SPACES = ` ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`;
/** GLM-4's and Llama 3's words: numbers in groups of three digits. */
export const UP_TO_THREE_DIGITS = `${CONTRACTIONS}|${WORDS}|\\p{N}{1,3}|${MARKS_AND_SPACES}`;
export const SINGLE_DIGITS = `${CONTRACTIONS}|${WORDS}|\\p{N}|${MARKS_AND_SPACES}`;
const WITH_MARKS = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${SPACES}`;

/** Words end where capitals begin anew; `contractions` may follow them. */
function casedWords(contractions: string, digits: string): string {
  const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
  const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
  const before = '[^\\r\\n\\p{L}\\p{N}]?';
  const words = `${before}${upper}*${lower}+${contractions}|${before}${upper}+${lower}*${contractions}`;
  return `${words}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;
}

const DEEPSEEK_WORDS =
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+' +
  `| ?[\\p{P}\\p{S}]+[\\r\\n]*|${SPACES}`;

const rules = (
  patterns: readonly string[],
  { ignoreMerges = false, addsBos = false } = {},
): PreTokenizerRules => ({ patterns, ignoreMerges, addsBos });

const LLAMA3 = rules([UP_TO_THREE_DIGITS], { ignoreMerges: true, addsBos: true });
const THREE_DIGITS = rules([UP_TO_THREE_DIGITS]);
// tiktoken takes a piece that has a rank whole, before it looks at merges.
const GLM4 = rules([UP_TO_THREE_DIGITS], { ignoreMerges: true });
const QWEN2 = rules([SINGLE_DIGITS]);
const GPT2 = rules([GPT2_WORDS]);
const SMOLLM = rules(['\\p{N}', GPT2_WORDS]);
const GPT4O = rules([casedWords(`${CONTRACTIONS}?`, '\\p{N}{1,3}')]);

/** Source: llama.cpp src/llama-vocab.cpp, the names and rules of its pre-tokenizers. */
const RULES: ReadonlyMap<string, PreTokenizerRules> = new Map([
  ['default', rules(['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2_WORDS, '\\p{N}+', '[0-9][0-9][0-9]'])],
  ['llama-bpe', LLAMA3],
  ['llama3', LLAMA3],
  ['llama-v3', LLAMA3],
  ['falcon3', LLAMA3],
  ['pixtral', LLAMA3],
  ['smaug-bpe', THREE_DIGITS],
  ['dbrx', THREE_DIGITS],
  ['glm4', GLM4],
  ['chatglm-bpe', GLM4],
  ['qwen2', QWEN2],
  ['deepseek-r1-qwen', QWEN2],
  ['megrez', QWEN2],
  ['stablelm2', QWEN2],
  ['qwen35', rules([WITH_MARKS])],
  ['gpt-2', GPT2],
  ['phi-2', GPT2],
  ['mpt', GPT2],
  ['olmo', GPT2],
  ['jina-es', GPT2],
  ['jina-de', GPT2],
  ['jina-v2-es', GPT2],
  ['jina-v2-de', GPT2],
  ['jina-v2-code', GPT2],
  ['modern-bert', GPT2],
  ['smollm', SMOLLM],
  ['starcoder', SMOLLM],
  ['refact', SMOLLM],
  ['command-r', SMOLLM],
  ['codeshell', SMOLLM],
  ['exaone', SMOLLM],
  ['tekken', rules([casedWords('', '\\p{N}')], { ignoreMerges: true, addsBos: true })],
  ['gpt-4o', GPT4O],
  ['llama4', GPT4O],
  ['deepseek-v3', rules(['\\p{N}{1,3}', '[一-龥぀-ゟ゠-ヿ]+', DEEPSEEK_WORDS])],
]);

/** The rules of a GGUF file's `tokenizer.ggml.pre`; a file without that key gets `default`, as in llama.cpp. */
export function preTokenizerRules(name: string | null): PreTokenizerRules {
  const found = RULES.get(name ?? 'default');
  if (found !== undefined) return found;
  throw unsupportedModel(
    'tokenizer.ggml.pre',
    `pre-tokenizer ${quoted(name ?? '')}`,
    [...RULES.keys()],
    'Use a checkpoint of the same model that has a tokenizer.json.',
  );
}

export function preTokenizerOf({ patterns }: Pick<PreTokenizerRules, 'patterns'>): ComponentJson {
  return { type: 'Sequence', pretokenizers: [...patterns.map(splitOn), BYTES_TO_ALPHABET] };
}
