import { randomInt } from 'node:crypto';
import type { ChatFormat } from '../../chat/chat-format';
import { AutoglmError } from '../../errors';
import { Limits } from '../../native/abi';
import { MAX_LOGIT_BIAS, MAX_STOP_BYTES, MAX_STOP_STRINGS } from '../limits';
import {
  abortSignal,
  anything,
  boolean,
  type Check,
  integer,
  invalidParameter,
  isWellFormed,
  numberIn,
  oneOf,
  parseObject,
  plainObject,
  text,
} from '../parameters';
import { parseSpeculation } from '../speculation-options';
import type { GenerateOptions, SamplingOptions } from '../types';
import type { SamplingSettings, SpeculationSettings } from '../worker/protocol';
import { checkWellFormed, messageArray, type ParsedMessage, parseMessages } from './message-options';
import { NO_TOOLS, type ParsedTools, parseToolChoice, parseTools, toolArray } from './tool-options';

/** What a prompt is made from. */
export type PromptInput =
  | { readonly kind: 'prompt'; readonly text: string; readonly parseSpecialTokens: boolean }
  | {
      readonly kind: 'messages';
      readonly messages: readonly ParsedMessage[];
      readonly tools: ParsedTools;
      readonly templateOptions: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: 'tokens'; readonly tokens: Int32Array };

/** GenerateOptions after validation, defaults filled in where they do not depend on the prompt. */
export interface ParsedGenerate {
  readonly input: PromptInput;
  readonly sampling: SamplingSettings;
  readonly biasTokens: Int32Array;
  readonly biasValues: Float32Array;
  /** Null for what is left of the context. */
  readonly maxTokens: number | null;
  /** Null for no limit. */
  readonly reasoningBudget: number | null;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  /** -1 for no log-probabilities. */
  readonly numLogprobs: number;
  readonly priority: number;
  readonly timeout: number | null;
  readonly salt: string;
  /** Name of the adapter; null for the base model. */
  readonly adapter: string | null;
  readonly speculation: SpeculationSettings | null;
  readonly onAbort: 'error' | 'partial';
  readonly signal: AbortSignal | null;
}

/** What the checks need to know of the model. */
export interface ModelFacts {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly hasChatTemplate: boolean;
  readonly chat: ChatFormat;
  readonly generationDefaults: SamplingOptions;
  /** Of requests that do not say otherwise. */
  readonly speculation: SpeculationSettings | null;
  readonly hasDraftModel: boolean;
  /** Characters a text may have. */
  readonly maxTextLength: number;
}

const SAMPLING_DEFAULTS = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
} as const;

const MAX_SEED = Number.MAX_SAFE_INTEGER;
/** randomInt takes ranges below 2^48. */
const RANDOM_SEEDS = 2 ** 48 - 1;

const someText: Check<string> = {
  allowed: 'a string that is not empty',
  accepts: (value): value is string => typeof value === 'string' && value !== '',
};

const tokenList: Check<readonly number[] | Int32Array> = {
  allowed: 'an array of token ids that is not empty',
  accepts: (value): value is readonly number[] | Int32Array =>
    (Array.isArray(value) || value instanceof Int32Array) && value.length >= 1,
};

const stopStrings: Check<string | readonly string[]> = {
  allowed: `a string or up to ${MAX_STOP_STRINGS} strings, each of 1..${MAX_STOP_BYTES} bytes`,
  accepts: (value): value is string | readonly string[] => {
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    return list.length <= MAX_STOP_STRINGS && list.every(isStopString);
  },
};

function isStopString(value: unknown): boolean {
  if (typeof value !== 'string' || value === '' || !isWellFormed(value)) return false;
  return value.length <= MAX_STOP_BYTES && Buffer.byteLength(value) <= MAX_STOP_BYTES;
}

const GENERATE_OPTIONS = {
  prompt: someText,
  messages: messageArray,
  tokens: tokenList,
  templateOptions: plainObject,
  tools: toolArray,
  toolChoice: anything,
  parallelToolCalls: boolean,
  reasoningBudget: integer(1, 2 ** 31 - 1),
  parseSpecialTokens: boolean,
  maxTokens: integer(1, 2 ** 31 - 1),
  stop: stopStrings,
  ignoreEos: boolean,
  logprobs: integer(0, Limits.maxLogprobs),
  priority: integer(-100, 100),
  timeout: numberIn(0, Number.MAX_SAFE_INTEGER, { above: true }),
  cacheSalt: text(0, 256),
  adapter: text(1, 64),
  speculation: anything,
  onAbort: oneOf('error', 'partial'),
  signal: abortSignal,
  temperature: numberIn(0, 100),
  topK: integer(0, 2 ** 31 - 1),
  topP: numberIn(0, 1, { above: true }),
  minP: numberIn(0, 1),
  repetitionPenalty: numberIn(0, 10, { above: true }),
  presencePenalty: numberIn(-2, 2),
  frequencyPenalty: numberIn(-2, 2),
  logitBias: plainObject,
  seed: integer(0, MAX_SEED),
};

type CheckedOptions = ReturnType<typeof checkOptions>;
const checkOptions = (options: unknown) => parseObject('options', options, GENERATE_OPTIONS);

/** Text alone is a user's message to a chat model, and a raw prompt to a model without a chat template. */
export function parseGenerate(input: string | GenerateOptions, facts: ModelFacts): ParsedGenerate {
  const options = checkOptions(typeof input === 'string' ? fromText(input, facts) : input);
  return {
    input: parseInput(options, facts),
    sampling: parseSampling(options, facts.generationDefaults),
    ...parseLogitBias(options.logitBias ?? {}, facts.vocabSize),
    maxTokens: options.maxTokens ?? null,
    reasoningBudget: parseReasoningBudget(options, facts),
    stop: typeof options.stop === 'string' ? [options.stop] : (options.stop ?? []),
    ignoreEos: options.ignoreEos ?? false,
    numLogprobs: options.logprobs ?? -1,
    priority: options.priority ?? 0,
    timeout: options.timeout ?? null,
    salt: options.cacheSalt ?? '',
    adapter: options.adapter ?? null,
    speculation:
      options.speculation === undefined
        ? facts.speculation
        : parseSpeculation(options.speculation, facts.hasDraftModel),
    onAbort: options.onAbort ?? 'error',
    signal: options.signal ?? null,
  };
}

function fromText(prompt: string, { hasChatTemplate }: ModelFacts): GenerateOptions {
  const { accepts, allowed } = GENERATE_OPTIONS.prompt;
  if (!accepts(prompt)) throw invalidParameter('prompt', allowed, prompt);
  return hasChatTemplate ? { messages: [{ role: 'user', content: prompt }] } : { prompt };
}

function parseInput(options: CheckedOptions, facts: ModelFacts): PromptInput {
  const { prompt, messages, tokens } = options;
  const given = Object.entries({ prompt, messages, tokens }).filter(([, value]) => value !== undefined);
  if (given.length !== 1) {
    const found = given.length === 0 ? 'none' : given.map(([name]) => name).join(' and ');
    throw new AutoglmError(
      'invalid_parameter',
      `expected exactly one of prompt, messages and tokens, got ${found}`,
      {
        details: { path: 'prompt', found, allowed: 'exactly one of prompt, messages, tokens' },
      },
    );
  }
  if (messages !== undefined) {
    const list = parseMessages(messages, facts.maxTextLength);
    const templateOptions = options.templateOptions ?? {};
    return { kind: 'messages', messages: list, tools: parseToolOptions(options, facts), templateOptions };
  }
  for (const name of CHAT_OPTIONS) {
    if (options[name] === undefined) continue;
    throw new AutoglmError(
      'invalid_parameter',
      `${name} needs messages: the answer to a raw prompt is all text`,
      {
        details: { path: name },
      },
    );
  }
  if (prompt !== undefined) {
    checkWellFormed('prompt', prompt, facts.maxTextLength);
    return { kind: 'prompt', text: prompt, parseSpecialTokens: options.parseSpecialTokens ?? false };
  }
  return { kind: 'tokens', tokens: parseTokens(tokens, facts, 'tokens') };
}

const CHAT_OPTIONS = ['tools', 'toolChoice', 'parallelToolCalls', 'reasoningBudget'] as const;

function parseReasoningBudget({ reasoningBudget }: CheckedOptions, { chat }: ModelFacts): number | null {
  if (reasoningBudget === undefined) return null;
  if (chat.think !== null) return reasoningBudget;
  throw new AutoglmError('invalid_parameter', 'reasoningBudget: this model has no tags for its reasoning', {
    hint: 'Leave it out, or limit the whole answer with maxTokens.',
    details: { path: 'reasoningBudget' },
  });
}

function parseToolOptions(options: CheckedOptions, { chat }: ModelFacts): ParsedTools {
  const { toolChoice, parallelToolCalls = true } = options;
  const given = options.tools === undefined ? [] : parseTools(options.tools);
  if (given.length === 0 && toolChoice === undefined) return NO_TOOLS;
  const parsed = parseToolChoice(toolChoice, given, parallelToolCalls);
  if (parsed.tools.length > 0) checkTakesTools(chat);
  return parsed;
}

/** Tools that the model would not see, or calls that nobody would understand, are refused rather than ignored. */
export function checkTakesTools({ toolTemplate, dialect }: ChatFormat): void {
  if (toolTemplate === null) {
    throw new AutoglmError(
      'invalid_parameter',
      'tools: the chat template of this model has no place for them',
      {
        hint: 'Load the model with a chatTemplate that has, or describe the functions in a message.',
        details: { path: 'tools' },
      },
    );
  }
  if (dialect !== null) return;
  throw new AutoglmError('invalid_parameter', 'tools: it is not known how this model writes tool calls', {
    hint: 'Name the dialect with chatDialect when loading the model.',
    details: { path: 'tools' },
  });
}

/** A copy, so that the caller may go on using its array. */
export function parseTokens(tokens: unknown, facts: ModelFacts, path: string): Int32Array {
  if (!tokenList.accepts(tokens)) throw invalidParameter(path, tokenList.allowed, tokens);
  if (tokens.length > facts.contextLength) throw contextLengthExceeded(tokens.length, facts.contextLength);
  const wrong = tokens.findIndex(
    (token) => !Number.isInteger(token) || token < 0 || token >= facts.vocabSize,
  );
  if (wrong >= 0) {
    throw invalidParameter(`${path}[${wrong}]`, `a token id in 0..${facts.vocabSize - 1}`, tokens[wrong]);
  }
  return Int32Array.from(tokens);
}

export function contextLengthExceeded(numTokens: number, contextLength: number): AutoglmError {
  return new AutoglmError(
    'context_length_exceeded',
    `the prompt has ${numTokens} tokens, but the context holds ${contextLength} with the answer`,
    {
      hint: 'Shorten the prompt, or load the model with a larger contextLength.',
      details: { promptTokens: numTokens, contextLength },
    },
  );
}

function parseSampling(options: CheckedOptions, defaults: SamplingOptions): SamplingSettings {
  const given = Object.keys(SAMPLING_DEFAULTS).filter(
    (name) => options[name as keyof typeof SAMPLING_DEFAULTS] !== undefined,
  );
  const merged: Record<string, unknown> = { ...SAMPLING_DEFAULTS, ...defaults };
  for (const name of given) merged[name] = options[name as keyof typeof SAMPLING_DEFAULTS];
  const { temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty } =
    merged as unknown as typeof SAMPLING_DEFAULTS;
  const seed = options.seed ?? randomInt(RANDOM_SEEDS);
  return { temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty, seed };
}

function parseLogitBias(
  bias: Readonly<Record<string, unknown>>,
  vocabSize: number,
): { biasTokens: Int32Array; biasValues: Float32Array } {
  const entries = Object.entries(bias);
  if (entries.length > MAX_LOGIT_BIAS) {
    throw invalidParameter('logitBias', `an object of at most ${MAX_LOGIT_BIAS} entries`, entries);
  }
  const value = numberIn(-100, 100);
  for (const [key, found] of entries) {
    if (!/^(0|[1-9]\d*)$/.test(key) || Number(key) >= vocabSize) {
      throw invalidParameter('a key of logitBias', `a token id in 0..${vocabSize - 1}`, key);
    }
    if (!value.accepts(found)) throw invalidParameter(`logitBias[${key}]`, value.allowed, found);
  }
  return {
    biasTokens: Int32Array.from(entries, ([key]) => Number(key)),
    biasValues: Float32Array.from(entries, ([, found]) => found as number),
  };
}
