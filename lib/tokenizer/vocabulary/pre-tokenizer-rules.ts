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

const CONTRACTIONS = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
const WORDS = '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+';
const MARKS_AND_SPACES = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const UP_TO_THREE_DIGITS = `${CONTRACTIONS}|${WORDS}|\\p{N}{1,3}|${MARKS_AND_SPACES}`;
const SINGLE_DIGITS = `${CONTRACTIONS}|${WORDS}|\\p{N}|${MARKS_AND_SPACES}`;

const LLAMA3: PreTokenizerRules = { patterns: [UP_TO_THREE_DIGITS], ignoreMerges: true, addsBos: true };
// tiktoken takes a piece that has a rank whole, before it looks at merges.
const GLM4: PreTokenizerRules = { patterns: [UP_TO_THREE_DIGITS], ignoreMerges: true, addsBos: false };
const QWEN2: PreTokenizerRules = { patterns: [SINGLE_DIGITS], ignoreMerges: false, addsBos: false };
const GPT2: PreTokenizerRules = { patterns: [GPT2_WORDS], ignoreMerges: false, addsBos: false };
const SMOLLM: PreTokenizerRules = { patterns: ['\\p{N}', GPT2_WORDS], ignoreMerges: false, addsBos: false };
const DEFAULT: PreTokenizerRules = {
  patterns: ['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2_WORDS, '\\p{N}+', '[0-9][0-9][0-9]'],
  ignoreMerges: false,
  addsBos: false,
};

/** Source: llama.cpp src/llama-vocab.cpp, the names and rules of its pre-tokenizers. */
const RULES: ReadonlyMap<string, PreTokenizerRules> = new Map([
  ['default', DEFAULT],
  ['llama-bpe', LLAMA3],
  ['llama3', LLAMA3],
  ['llama-v3', LLAMA3],
  ['falcon3', LLAMA3],
  ['pixtral', LLAMA3],
  ['glm4', GLM4],
  ['chatglm-bpe', GLM4],
  ['qwen2', QWEN2],
  ['deepseek-r1-qwen', QWEN2],
  ['megrez', QWEN2],
  ['gpt-2', GPT2],
  ['phi-2', GPT2],
  ['mpt', GPT2],
  ['olmo', GPT2],
  ['smollm', SMOLLM],
  ['starcoder', SMOLLM],
  ['refact', SMOLLM],
  ['command-r', SMOLLM],
  ['codeshell', SMOLLM],
]);

/** The rules of a GGUF file's `tokenizer.ggml.pre`; a file without that key gets `default`, as in llama.cpp. */
export function preTokenizerRules(name: string | null): PreTokenizerRules {
  const rules = RULES.get(name ?? 'default');
  if (rules !== undefined) return rules;
  throw unsupportedModel(
    'tokenizer.ggml.pre',
    `pre-tokenizer ${quoted(name ?? '')}`,
    [...RULES.keys()],
    'Use a checkpoint of the same model that has a tokenizer.json.',
  );
}

export function preTokenizerOf(rules: PreTokenizerRules): ComponentJson {
  return { type: 'Sequence', pretokenizers: [...rules.patterns.map(splitOn), BYTES_TO_ALPHABET] };
}
