import { DIALECTS } from '../chat/dialects/registry';
import type { MarkedText } from '../chat/mark-markup';
import { endsInReasoning, forcedCallText } from '../chat/prompt-ending';
import { AutoglmError } from '../errors';
import { RequestKind } from '../native/abi';
import { controlTokens } from '../tokenizer/control-tokens';
import { decodeTokens } from '../tokenizer/stream-decoder';
import { AdapterTable } from './adapter-table';
import type { EngineThread } from './engine-thread';
import { MAX_LOGITS_BYTES } from './limits';
import type { Adapter, LoadAdapterOptions } from './load-types';
import {
  abortSignal,
  boolean,
  type Check,
  integer,
  invalidParameter,
  parseObject,
  plainObject,
  text,
} from './parameters';
import type { EncodedPrompt } from './requests/answer-format';
import { evaluate, PLAIN_EVALUATION } from './requests/evaluation';
import { checkTakesTools, type ModelFacts, type PromptInput, parseTokens } from './requests/generate-options';
import { type GenerationHost, TextGeneration } from './requests/generation';
import { parseMessages, toTemplateMessage } from './requests/message-options';
import { PooledTasks } from './requests/pooled-tasks';
import type { RequestTable } from './requests/request-table';
import { TokenSpeller } from './requests/token-speller';
import { NO_TOOLS, type ParsedTools, parseTools, toTemplateTool } from './requests/tool-options';
import type { ModelStats } from './stats-types';
import type { LoadedText, TextService } from './text/types';
import type {
  ChatMessage,
  ClassifyResult,
  EmbedResult,
  GenerateOptions,
  Generation,
  Logger,
  LogitsOptions,
  Model,
  ModelInfo,
  RerankResult,
  ScoreOptions,
  TokenizeOptions,
  ToolDefinition,
} from './types';
import type { SpeculationSettings } from './worker/protocol';

export interface LocalModelParts {
  readonly id: string;
  /** The model's number in the engine worker. */
  readonly number: number;
  readonly info: ModelInfo;
  readonly thread: EngineThread;
  readonly requests: RequestTable;
  readonly text: TextService;
  readonly logger: Logger;
  readonly loaded: LoadedText;
  /**
   * Generations that may be pending. More than the scheduler takes, which refuses the rest with an estimate of when to
   * come back; this bound keeps a flood from the text workers.
   */
  readonly maxPending: number;
  readonly maxConcurrency: number;
  readonly speculation: SpeculationSettings | null;
  readonly onClosed: () => void;
}

const TOKENIZE_OPTIONS = { addSpecialTokens: boolean, parseSpecialTokens: boolean };
const DETOKENIZE_OPTIONS = { skipSpecialTokens: boolean };
const COUNT_INPUT = {
  messages: { allowed: 'an array', accepts: Array.isArray } as Check<unknown[]>,
  tools: { allowed: 'an array', accepts: Array.isArray } as Check<unknown[]>,
  templateOptions: plainObject,
};
const anyText = text(0, Number.MAX_SAFE_INTEGER);
const someText = text(1, 64);

const positionList: Check<readonly number[]> = {
  allowed: 'an array of positions that is not empty',
  accepts: (value): value is readonly number[] => Array.isArray(value) && value.length > 0,
};
const LOGITS_OPTIONS = { positions: positionList, adapter: someText, signal: abortSignal };
const SCORE_OPTIONS = { adapter: someText, signal: abortSignal };

/** A model in this process. Once `close` is called, every pending and later call rejects with `engine_closed`. */
export class LocalModel implements Model {
  readonly id: string;
  readonly info: ModelInfo;
  readonly #parts: LocalModelParts;
  readonly #facts: ModelFacts;
  readonly #host: GenerationHost;
  readonly #pooledTasks: PooledTasks;
  readonly #adapters: AdapterTable;
  readonly #generations = new Set<TextGeneration>();
  readonly #rejectPending = new Set<(error: AutoglmError) => void>();
  #ended: AutoglmError | null = null;
  #closing: Promise<void> | null = null;

  constructor(parts: LocalModelParts) {
    const { loaded, requests } = parts;
    this.#parts = parts;
    this.#adapters = new AdapterTable(parts);
    this.id = parts.id;
    this.info = parts.info;
    this.#facts = {
      vocabSize: parts.info.vocabSize,
      contextLength: parts.info.contextLength,
      hasChatTemplate: loaded.hasChatTemplate,
      chat: loaded.chat,
      generationDefaults: loaded.generationDefaults,
      speculation: parts.speculation,
      hasDraftModel: parts.info.draftModel !== null,
      maxTextLength: loaded.maxTextLength,
    };
    const { id: modelId, info, text, maxConcurrency, maxPending } = parts;
    const { contextLength, vocabSize } = info;
    this.#pooledTasks = new PooledTasks({
      modelId,
      contextLength,
      vocabSize,
      loaded,
      text,
      requests,
      maxConcurrency,
      maxPending,
    });
    this.#host = {
      facts: this.#facts,
      tokenTable: loaded.tokenTable,
      controlTokens: controlTokens(loaded.tokenTable),
      chat: loaded.chat,
      speller: new TokenSpeller(loaded.tokenTable),
      eosTokens: new Set(loaded.eosTokens),
      requests,
      enter: (generation) => this.#enter(generation),
      left: (generation) => this.#generations.delete(generation),
      encode: (input, signal) => this.#encode(input, signal),
      encodeControl: (text, signal) => {
        const options = { addSpecialTokens: false, parseSpecialTokens: true, signal };
        return parts.text.tokenize(parts.id, text, options);
      },
      adapterNumber: (name) => this.#adapters.numberOf(name),
    };
  }

  generate(input: string | GenerateOptions): Generation {
    return new TextGeneration(this.#host, input);
  }

  tokenize(input: string, options: TokenizeOptions = {}): Promise<Int32Array> {
    return this.#guard(async () => {
      if (!anyText.accepts(input)) throw invalidParameter('text', anyText.allowed, input);
      const parsed = parseObject('options', options, TOKENIZE_OPTIONS);
      const { addSpecialTokens = false, parseSpecialTokens = false } = parsed;
      return this.#parts.text.tokenize(this.id, input, { addSpecialTokens, parseSpecialTokens });
    });
  }

  detokenize(
    tokens: readonly number[] | Int32Array,
    options: { readonly skipSpecialTokens?: boolean } = {},
  ): Promise<string> {
    return this.#guard(async () => {
      const { skipSpecialTokens = false } = parseObject('options', options, DETOKENIZE_OPTIONS);
      if (tokens.length === 0) return '';
      const ids = parseTokens(tokens, { ...this.#facts, contextLength: Number.MAX_SAFE_INTEGER }, 'tokens');
      return decodeTokens(this.#parts.loaded.tokenTable, ids, { skipSpecialTokens });
    });
  }

  countTokens(
    input:
      | string
      | {
          readonly messages: readonly ChatMessage[];
          readonly tools?: readonly ToolDefinition[];
          readonly templateOptions?: Readonly<Record<string, unknown>>;
        },
  ): Promise<number> {
    return this.#guard(async () => {
      if (typeof input === 'string') return (await this.tokenize(input)).length;
      const { messages, tools, templateOptions = {} } = parseObject('options', input, COUNT_INPUT);
      const parsed = parseMessages(messages, this.#facts.maxTextLength);
      const offered = this.#parseTools(tools);
      const prompt: PromptInput = { kind: 'messages', messages: parsed, tools: offered, templateOptions };
      return (await this.#encode(prompt, null)).tokens.length;
    });
  }

  renderPrompt(
    messages: readonly ChatMessage[],
    templateOptions: Readonly<Record<string, unknown>> = {},
    tools: readonly ToolDefinition[] = [],
  ): Promise<string> {
    return this.#guard(async () => {
      if (!plainObject.accepts(templateOptions)) {
        throw invalidParameter('templateOptions', plainObject.allowed, templateOptions);
      }
      const list = parseMessages(messages, this.#facts.maxTextLength);
      const offered = this.#parseTools(tools);
      return this.#parts.text.render(this.id, {
        messages: list.map(toTemplateMessage),
        tools: offered.tools.map(toTemplateTool),
        templateOptions,
      });
    });
  }

  logits(tokens: readonly number[] | Int32Array, options: LogitsOptions = {}): Promise<Float32Array> {
    return this.#guard(async () => {
      this.#pooledTasks.require('generate');
      const {
        positions = [-1],
        adapter = null,
        signal = null,
      } = parseObject('options', options, LOGITS_OPTIONS);
      const { vocabSize } = this.#facts;
      const ids = parseTokens(tokens, this.#facts, 'tokens');
      const wanted = positions.map((position, i) => {
        const check = integer(-ids.length, ids.length - 1);
        if (!check.accepts(position)) throw invalidParameter(`positions[${i}]`, check.allowed, position);
        return position < 0 ? position + ids.length : position;
      });
      if (wanted.length * vocabSize * 4 > MAX_LOGITS_BYTES) {
        const most = Math.floor(MAX_LOGITS_BYTES / (4 * vocabSize));
        throw invalidParameter('positions', `an array of at most ${most} positions`, wanted);
      }
      const computed = Int32Array.from(new Set(wanted)).sort();
      const outputLength = computed.length * vocabSize;
      const kind = RequestKind.logits;
      const values = await evaluate(this.#parts.requests, {
        kind,
        tokens: ids,
        positions: computed,
        outputLength,
        ...PLAIN_EVALUATION,
        adapter: this.#adapters.numberOf(adapter),
        signal,
      });
      return inOrder(values, computed, wanted, vocabSize);
    });
  }

  score(tokens: readonly number[] | Int32Array, options: ScoreOptions = {}): Promise<Float32Array> {
    return this.#guard(async () => {
      this.#pooledTasks.require('generate');
      const { adapter = null, signal = null } = parseObject('options', options, SCORE_OPTIONS);
      const ids = parseTokens(tokens, this.#facts, 'tokens');
      const outputLength = ids.length - 1;
      if (outputLength === 0) return new Float32Array(0);
      const kind = RequestKind.score;
      return evaluate(this.#parts.requests, {
        kind,
        tokens: ids,
        positions: new Int32Array(0),
        outputLength,
        ...PLAIN_EVALUATION,
        adapter: this.#adapters.numberOf(adapter),
        signal,
      });
    });
  }

  embed(...[texts, options = {}]: Parameters<Model['embed']>): Promise<EmbedResult> {
    return this.#guard(() => this.#pooledTasks.embed(texts, options));
  }

  classify(...[inputs, options = {}]: Parameters<Model['classify']>): Promise<ClassifyResult> {
    return this.#guard(() => this.#pooledTasks.classify(inputs, options));
  }

  rerank(...[query, documents, options = {}]: Parameters<Model['rerank']>): Promise<RerankResult> {
    return this.#guard(() => this.#pooledTasks.rerank(query, documents, options));
  }

  stats(): Promise<ModelStats> {
    return this.#guard(async () => {
      const stats = await this.#parts.thread.call({ type: 'stats', model: this.#parts.number });
      const { adapterRequests, ...rest } = stats;
      return { ...rest, adapters: this.#adapters.statsOf(adapterRequests) };
    });
  }

  get adapters(): readonly Adapter[] {
    return this.#adapters.adapters;
  }

  loadAdapter(source: string | LoadAdapterOptions): Promise<Adapter> {
    return this.#guard(() => this.#adapters.load(source));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close(new AutoglmError('engine_closed', `the model ${this.id} is closed`));
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Rejects everything pending, and every later call, without freeing anything: the engine worker has gone. */
  lost(error: AutoglmError): void {
    this.#ended ??= error;
    this.#adapters.close(this.#ended);
    for (const generation of [...this.#generations]) generation.fail(this.#ended);
    for (const reject of [...this.#rejectPending]) reject(this.#ended);
    this.#parts.requests.failAll(this.#ended);
  }

  async #close(error: AutoglmError): Promise<void> {
    const { thread, number, text, onClosed } = this.#parts;
    this.lost(error);
    onClosed();
    text.unloadModel(this.id);
    if (thread.lost === null) await thread.call({ type: 'closeModel', model: number });
    thread.forget(number);
  }

  #enter(generation: TextGeneration): void {
    if (this.#ended !== null) throw this.#ended;
    this.#pooledTasks.require('generate');
    const { maxPending } = this.#parts;
    if (this.#generations.size >= maxPending) {
      throw new AutoglmError(
        'queue_full',
        `${maxPending} generations are pending already; more are refused`,
        {
          hint: 'Try again later, or load the model with a larger maxQueuedRequests.',
          details: { pending: this.#generations.size, allowed: maxPending },
        },
      );
    }
    this.#generations.add(generation);
  }

  #parseTools(given: unknown): ParsedTools {
    const tools = given === undefined ? [] : parseTools(given);
    if (tools.length > 0) checkTakesTools(this.#facts.chat);
    return { ...NO_TOOLS, tools };
  }

  async #encode(input: PromptInput, signal: AbortSignal | null): Promise<EncodedPrompt> {
    const { text } = this.#parts;
    const abort = signal === null ? {} : { signal };
    switch (input.kind) {
      case 'tokens':
        return { tokens: input.tokens, ...AS_TEXT };
      case 'prompt': {
        const { parseSpecialTokens } = input;
        const options = { addSpecialTokens: true, parseSpecialTokens, ...abort };
        return { tokens: await text.tokenize(this.id, input.text, options), ...AS_TEXT };
      }
      case 'messages': {
        const { prompt, begun, tokens } = await text.renderAndTokenize(this.id, {
          messages: input.messages.map(toTemplateMessage),
          tools: input.tools.tools.map(toTemplateTool),
          templateOptions: input.templateOptions,
          begin: (rendered) => this.#begin(rendered, input.tools),
          ...abort,
        });
        return { tokens, begun, beginsInReasoning: endsInReasoning(prompt, this.#facts.chat.think) };
      }
    }
  }

  /** What is written in the model's name after the prompt. */
  #begin(prompt: MarkedText, { forced, tools }: ParsedTools): string {
    if (forced === null) return '';
    const { dialect, think, toolTemplate } = this.#facts.chat;
    const tool = forced === 'any' ? null : forced.name;
    const head =
      dialect === null
        ? null
        : forcedCallText(prompt, { dialect: DIALECTS[dialect], think, template: toolTemplate ?? '', tool });
    if (head !== null) return head;
    const what = tool === null ? `any of ${tools.length} tools` : `'${tool}'`;
    throw new AutoglmError(
      'invalid_parameter',
      `toolChoice: a call of ${what} cannot be forced with this model`,
      {
        hint: tool === null ? "Name the tool, or use 'auto'." : "Use 'auto'.",
        details: { path: 'toolChoice', dialect },
      },
    );
  }

  /** Runs a call that `close` cuts short. */
  #guard<T>(call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) {
        reject(this.#ended);
        return;
      }
      this.#rejectPending.add(reject);
      call()
        .then(resolve, reject)
        .finally(() => this.#rejectPending.delete(reject));
    });
  }
}

/** Prompts that are no conversation: everything the model says is text. */
const AS_TEXT = { beginsInReasoning: false, begun: '' } as const;

/** Rows of the computed positions, put in the order in which they were asked for. */
function inOrder(
  values: Float32Array,
  computed: Int32Array,
  wanted: readonly number[],
  vocabSize: number,
): Float32Array {
  if (wanted.length === computed.length && wanted.every((position, i) => position === computed[i]))
    return values;
  const ordered = new Float32Array(wanted.length * vocabSize);
  for (const [i, position] of wanted.entries()) {
    const row = computed.indexOf(position);
    ordered.set(values.subarray(row * vocabSize, (row + 1) * vocabSize), i * vocabSize);
  }
  return ordered;
}
