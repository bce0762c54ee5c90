import { quoted, unsupportedModel } from '../../model/model-file-error';
import { BYTES_TO_ALPHABET, type ComponentJson, GPT2_WORDS, splitOn } from './tokenizer-json';

/** What one value of `tokenizer.ggml.pre` means. */
export interface PreTokenizerRules {
  /** Cuts made one after the other. */
  readonly patterns: readonly string[];
  readonly ignoreMerges: boolean;
  /** Used when the file has no `add_bos_token`. */
  readonly addsBos: boolean;
  /** Used when the file has no `add_sep_token`. */
  readonly addsSep: boolean;
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
  { ignoreMerges = false, addsBos = false, addsSep = false } = {},
): PreTokenizerRules => ({ patterns, ignoreMerges, addsBos, addsSep });

const LLAMA3 = rules([UP_TO_THREE_DIGITS], { ignoreMerges: true, addsBos: true });
const THREE_DIGITS = rules([UP_TO_THREE_DIGITS]);
// tiktoken takes a piece that has a rank whole, before it looks at merges.
const GLM4 = rules([UP_TO_THREE_DIGITS], { ignoreMerges: true });
const QWEN2 = rules([SINGLE_DIGITS]);
const GPT2 = rules([GPT2_WORDS]);
const ROBERTA = rules([GPT2_WORDS], { addsSep: true });
const SMOLLM = rules(['\\p{N}', GPT2_WORDS]);
const GPT4O = rules([casedWords(`${CONTRACTIONS}?`, '\\p{N}{1,3}')]);

// Digits in groups of three from the right.
const TINY_AYA = rules(['\\d{1,3}(?=(?:\\d{3})*\\b)', ...GPT4O.patterns]);
const CLAUSES = ' ?[^(\\s|.,!?…。，、।۔،)]+';
const BLOOM = rules([CLAUSES]);
const DEEPSEEK3 = rules(['\\p{N}{1,3}', '[一-龥぀-ゟ゠-ヿ]+', DEEPSEEK_WORDS]);
const BAILING = rules([
  "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
]);
const SPACED_WORDS =
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}` +
  '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+';

/** Source: llama.cpp src/llama-vocab.cpp, the names and rules of its pre-tokenizers. */
const RULES: ReadonlyMap<string, PreTokenizerRules> = new Map([
  ['default', rules(['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2_WORDS, '\\p{N}+', '[0-9][0-9][0-9]'])],
  ['llama-bpe', LLAMA3],
  ['llama3', LLAMA3],
  ['llama-v3', LLAMA3],
  ['falcon3', LLAMA3],
  ['pixtral', LLAMA3],
  ['falcon-h1', LLAMA3],
  ['midm-2.0', LLAMA3],
  ['lfm2', LLAMA3],
  ['smaug-bpe', THREE_DIGITS],
  ['dbrx', THREE_DIGITS],
  ['glm4', GLM4],
  ['chatglm-bpe', GLM4],
  ['qwen2', QWEN2],
  ['deepseek-r1-qwen', QWEN2],
  ['megrez', QWEN2],
  ['stablelm2', QWEN2],
  ['kormo', QWEN2],
  ['f2llmv2', QWEN2],
  ['hunyuan', QWEN2],
  ['solar-open', QWEN2],
  ['grok-2', QWEN2],
  ['qwen35', rules([WITH_MARKS])],
  ['gpt-2', GPT2],
  ['phi-2', GPT2],
  ['mpt', GPT2],
  ['olmo', GPT2],
  ['jina-es', GPT2],
  ['jina-de', GPT2],
  ['jina-v2-es', GPT2],
  ['jina-v2-de', GPT2],
  ['jina-v2-code', ROBERTA],
  ['modern-bert', GPT2],
  ['gigachat', GPT2],
  ['a.x-4.0', GPT2],
  ['mellum', GPT2],
  ['jina-v1-en', ROBERTA],
  ['roberta-bpe', ROBERTA],
  ['exaone4', GPT2],
  ['jais', GPT2],
  ['trillion', GPT2],
  ['granite-docling', GPT2],
  ['smollm', SMOLLM],
  ['starcoder', SMOLLM],
  ['refact', SMOLLM],
  ['command-r', SMOLLM],
  ['codeshell', SMOLLM],
  ['exaone', SMOLLM],
  ['minerva-7b', SMOLLM],
  ['mellum2', SMOLLM],
  ['tekken', rules([casedWords('', '\\p{N}')], { ignoreMerges: true, addsBos: true })],
  ['gpt-4o', GPT4O],
  ['llama4', GPT4O],
  ['minimax-m2', GPT4O],
  ['kanana2', GPT4O],
  ['tiny_aya', TINY_AYA],
  ['cohere2moe', TINY_AYA],
  ['superbpe', rules(['\\p{N}+', '(?=(\\d{3})+(?!\\d))'])],
  ['bloom', BLOOM],
  ['poro-chat', BLOOM],
  ['gpt3-finnish', BLOOM],
  ['viking', rules([CLAUSES, '\\p{N}'])],
  ['falcon', rules(['[\\p{P}\\$\\+<=>\\^~\\|`]+', GPT2_WORDS, '[0-9][0-9][0-9]'])],
  ['deepseek-coder', rules(['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', '[一-龥ࠀ-一가-\ud7ff]+', '\\p{N}'])],
  ['deepseek-v3', DEEPSEEK3],
  ['hunyuan-dense', DEEPSEEK3],
  ['joyai-llm', DEEPSEEK3],
  ['bailingmoe', BAILING],
  ['bailingmoe2', BAILING],
  ['llada-moe', BAILING],
  ['seed-coder', rules([`${CONTRACTIONS}|${WORDS}|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|${SPACES}`])],
  ['exaone-moe', rules([SPACED_WORDS])],
  ['minicpm5', rules(['\\p{N}{1,3}', `${CONTRACTIONS}|${WORDS}|\\p{N}+|${MARKS_AND_SPACES}`])],
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
