import type { DialectName } from '../chat/dialects/dialect';
import type { ToolCall, ToolDefinition } from '../chat/tool-types';
import type { ComputeLayout } from '../native/abi';
import type { Device, GpuInfo, PlacedLayers } from './device-types';
import type {
  Adapter,
  KvCacheOptions,
  LoadAdapterOptions,
  LoadProgress,
  WeightCacheOptions,
} from './load-types';
import type { DraftModelInfo, LoadSpeculation, Speculation } from './speculation-types';
import type { EngineStats, ModelStats } from './stats-types';

export type { ToolCall, ToolDefinition };
export type ChatDialect = DialectName;

/** Structured log line; nothing is ever written to stdout or stderr by the library itself. */
export interface LogRecord {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly text: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}
export type Logger = (record: LogRecord) => void;

export interface EngineOptions {
  /**
   * What models are computed on: `cpu`; `cuda`, the first GPU that can be used, and those behind it for a model that has no
   * room there; `cuda:N`, the driver's GPU N alone; `cuda:0,1` and the like, these GPUs, each with layers of every model in
   * proportion to its free memory, the first ones on the first named. A GPU that cannot be used rejects with `no_binary` or
   * `invalid_parameter`; nothing falls back. `auto`, the default, is `cpu`: the CUDA kernels have been proved on an emulator
   * only.
   */
  readonly device?: Device;
  /**
   * Compute threads, 1..256. Default: the processors this process may use (affinity and cgroup considered); the logger is
   * warned of more.
   */
  readonly threads?: number;
  readonly logger?: Logger;
}

/** Which native binary was loaded and why. */
export interface BinaryInfo {
  readonly path: string;
  readonly variant: 'cpu' | 'cuda';
  /** The first of `gpus`; null for the processor. */
  readonly gpu: GpuInfo | null;
  /** The GPUs that models may be computed on, in the order of their layers. */
  readonly gpus: readonly GpuInfo[];
  readonly isa: string;
  readonly supportedIsas: readonly string[];
  readonly abiVersion: number;
  /** Every file looked at, with its verdict in words. */
  readonly candidates: readonly { readonly path: string; readonly verdict: string }[];
}

export interface LoadModelOptions {
  /** A path, a short name, `hf:`, `modelscope:`, `https:` or `pip:` source. */
  readonly source: string;
  /** Tokens a sequence may reach. Default: the model's own, at most what the KV cache holds. */
  readonly contextLength?: number;
  readonly kvCache?: KvCacheOptions;
  readonly precision?: 'fast' | 'exact';
  /** docs/decisions/0012-packed-weights-on-disk.md. Default true, or what OPEN_AUTOGLM_WEIGHT_CACHE says. */
  readonly weightCache?: boolean | WeightCacheOptions;
  /**
   * How many of the last layers GPUs compute, 1 to all, at least one for each GPU that `device` lists; the processor has the
   * others. `auto`, the default: as many as fit beside the KV cache asked for, by default one of 4096 tokens.
   * `out_of_memory` where they do not fit.
   */
  readonly gpuLayers?: number | 'auto';
  /** Requests computed in one batch at most, 1..1024. Default 64. */
  readonly maxConcurrency?: number;
  /** Requests that may wait. Default 4 x maxConcurrency. */
  readonly maxQueuedRequests?: number;
  /** Token positions per step, 16..8192. Default 512. */
  readonly maxStepTokens?: number;
  /**
   * Positions of one prompt computed per step while other requests decode, 1..8192; all prompts together get fewer where
   * the step would take too long. Default half of maxStepTokens.
   */
  readonly maxChunkTokens?: number;
  /** For requests that do not say otherwise. Default `off`. */
  readonly speculation?: LoadSpeculation;
  /**
   * Finds out, while steps run, how their work is best cut for the threads, and keeps that for later loads. Results do not
   * depend on it. Default true, or false with OPEN_AUTOGLM_AUTOTUNE=0.
   */
  readonly autotune?: boolean;
  /** Forbids the network; also set by HF_HUB_OFFLINE=1. */
  readonly offline?: boolean;
  /** Template to use instead of the checkpoint's (Jinja). */
  readonly chatTemplate?: string;
  /** How the model writes tool calls. Default: what its template and control tokens show. */
  readonly chatDialect?: ChatDialect | 'none';
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal;
}

export type ChatRole = 'system' | 'user' | 'assistant' | 'tool' | 'developer';
/** A call in a conversation's history. */
export interface ChatToolCall {
  readonly id?: string;
  readonly name: string;
  /** JSON text of an object, or the object. */
  readonly arguments: string | Readonly<Record<string, unknown>>;
}
export interface ChatMessage {
  readonly role: ChatRole;
  /** Null or absent only beside an assistant's tool calls. */
  readonly content?: string | null;
  readonly name?: string;
  /** An assistant's. */
  readonly toolCalls?: readonly ChatToolCall[];
  /** Of a message of role `tool`: the call whose result it is. */
  readonly toolCallId?: string;
  /** An assistant's thoughts before its answer; templates decide which of them the model sees again. */
  readonly reasoning?: string;
}
/** `required`: any tool; a name: that one. Both begin the answer with the head of a call. */
export type ToolChoice = 'auto' | 'none' | 'required' | { readonly name: string };

/** Sampling settings; each absent one takes the model's generation_config.json value, else the default given. */
export interface SamplingOptions {
  /** 0 is greedy. 0..100, default 1. */
  readonly temperature?: number;
  /** 0 disables; default 0. */
  readonly topK?: number;
  /** (0, 1], default 1. */
  readonly topP?: number;
  /** [0, 1], default 0. */
  readonly minP?: number;
  /** (0, 10], default 1; over prompt and output, as in the CTRL paper. */
  readonly repetitionPenalty?: number;
  /** [-2, 2], default 0; over the output. */
  readonly presencePenalty?: number;
  /** [-2, 2], default 0; over the output. */
  readonly frequencyPenalty?: number;
  /** Token id -> added to its logit, [-100, 100]; at most 1,024 entries. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** 0..2^53-1. The same seed, prompt and settings give the same tokens whatever else runs. Default: random. */
  readonly seed?: number;
}

export interface GenerateOptions extends SamplingOptions {
  /** Exactly one of prompt, messages, tokens. A prompt is raw text; messages go through the chat template. */
  readonly prompt?: string;
  readonly messages?: readonly ChatMessage[];
  readonly tokens?: readonly number[] | Int32Array;
  /** Variables for the chat template, e.g. { enable_thinking: false }. */
  readonly templateOptions?: Readonly<Record<string, unknown>>;
  /** Functions the model may call, at most 128; with messages only. */
  readonly tools?: readonly ToolDefinition[];
  /** Default `auto`. */
  readonly toolChoice?: ToolChoice;
  /** False ends the answer after its first call. Default true. */
  readonly parallelToolCalls?: boolean;
  /**
   * Tokens of reasoning at most, at least 1: after them its end is written in the model's name and the answer follows. The
   * tokens written so are neither in `tokens` nor counted; presence and frequency penalties count from there on.
   */
  readonly reasoningBudget?: number;
  /** Special tokens written in `prompt` are parsed as such. Default false: they are plain text. */
  readonly parseSpecialTokens?: boolean;
  /** New tokens at most. Default: what is left of the context. */
  readonly maxTokens?: number;
  /** Up to 16 strings of 1..256 bytes; generation ends before the first one. */
  readonly stop?: string | readonly string[];
  /** Goes on after the model's own end-of-text tokens. */
  readonly ignoreEos?: boolean;
  /** Alternatives per token, 0..20; the chosen token's log-probability comes with 0. */
  readonly logprobs?: number;
  /** Higher runs first, -100..100, default 0. */
  readonly priority?: number;
  /** Milliseconds from the call until it fails with `deadline_exceeded`. */
  readonly timeout?: number;
  /** Prefix-cache tenant: prompts are shared only between calls with the same salt. */
  readonly cacheSalt?: string;
  /** Name of a loaded adapter. Default: none, the base model. */
  readonly adapter?: string;
  /** Default: as the model was loaded. */
  readonly speculation?: Speculation;
  /** After an abort: `error` rejects with `aborted` (default), `partial` resolves with the text so far. */
  readonly onAbort?: 'error' | 'partial';
  readonly signal?: AbortSignal;
}

export interface TokenLogprob {
  readonly token: number;
  readonly text: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
  readonly top: readonly {
    readonly token: number;
    readonly text: string;
    readonly bytes: readonly number[];
    readonly logprob: number;
  }[];
}

/** `tool-calls`: the answer ended by itself and has calls. */
export type FinishReason = 'stop' | 'length' | 'tool-calls' | 'abort';
export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Completion tokens that belong to the reasoning. */
  readonly reasoningTokens: number;
  /** Prompt tokens that were not computed because the prefix cache had them. */
  readonly cachedTokens: number;
  /** Tokens guessed by speculation, and how many of them were right; those of an answer cut short count too. */
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
}
/** Milliseconds. */
export interface Timings {
  readonly queueMs: number;
  readonly prefillMs: number;
  /** From the call to the first token. */
  readonly ttftMs: number;
  readonly decodeMs: number;
  readonly totalMs: number;
  readonly tokensPerSecond: number;
}
export interface Warning {
  readonly code: string;
  readonly message: string;
}

/** What the tokens of an event were; log-probabilities come when they were asked for. */
interface EventTokens {
  readonly tokens: readonly number[];
  readonly logprobs?: readonly TokenLogprob[];
}

/**
 * An event holds what was added since the reader's last one: a slow reader gets fewer and longer events. Tokens come with
 * the next event that has them and may be ahead of its text, which waits for whole characters and for what may become a
 * stop string or a tag; the token that ends a generation has no text. Deltas of `tool-input` are JSON text that goes on as
 * the model writes it; `tool-call` follows once it is whole. What turns out to be no call comes again as text, after a
 * warning.
 */
export type GenerateEvent =
  | ({ readonly type: 'text'; readonly text: string } & EventTokens)
  | ({ readonly type: 'reasoning'; readonly text: string } & EventTokens)
  | ({
      readonly type: 'tool-input';
      readonly id: string;
      readonly name: string;
      readonly delta: string;
    } & EventTokens)
  | { readonly type: 'tool-call'; readonly call: ToolCall }
  | { readonly type: 'warning'; readonly warning: Warning }
  | {
      readonly type: 'finish';
      readonly finishReason: FinishReason;
      readonly usage: Usage;
      readonly timings: Timings;
    };

export interface GenerateResult {
  /** The answer, without reasoning and tool calls. */
  readonly text: string;
  /** Empty when the model did not reason, or not aloud. */
  readonly reasoning: string;
  /** Whole calls, in order. */
  readonly toolCalls: readonly ToolCall[];
  /** Every generated token, also the end-of-text token and those of a stop string. */
  readonly tokens: readonly number[];
  readonly logprobs?: readonly TokenLogprob[];
  readonly finishReason: FinishReason;
  readonly stopString?: string;
  readonly usage: Usage;
  readonly timings: Timings;
  readonly warnings: readonly Warning[];
  /** The settings used, defaults filled in. */
  readonly sampling: Required<Omit<SamplingOptions, 'logitBias'>>;
}

/**
 * One running generation: iterate it for events, or await it for the result; both may be done, by several readers.
 * A generation nobody awaits is paused when 1,024 tokens are there that no reader has taken, and aborted when its last
 * reader leaves early.
 */
export interface Generation extends AsyncIterable<GenerateEvent>, PromiseLike<GenerateResult> {
  readonly textStream: AsyncIterable<string>;
  /** The finished result; the same promise `await` uses. */
  readonly result: Promise<GenerateResult>;
  abort(reason?: unknown): void;
}

export interface ChatSupport {
  /** How the model writes tool calls; null when that is not known. */
  readonly dialect: ChatDialect | null;
  /** The chat template has a place for tools, and calls are understood. */
  readonly takesTools: boolean;
  /** Reasoning is told from the answer. */
  readonly reasons: boolean;
}

export interface ModelInfo {
  readonly source: string;
  readonly files: readonly string[];
  /** Which source answered, and why each one before it did not. */
  readonly resolution: readonly { readonly source: string; readonly verdict: string }[];
  readonly family: string;
  readonly name: string | null;
  readonly format: 'gguf' | 'safetensors';
  readonly contextLength: number;
  readonly modelContextLength: number;
  readonly vocabSize: number;
  readonly numParameters: number;
  readonly weightBytes: number;
  /** How many of the last layers GPUs compute; 0 on the processor. */
  readonly gpuLayers: number;
  /** Which layers are computed where, in their order. */
  readonly layerPlacement: readonly PlacedLayers[];
  /** The weights came from the cache of packed weights, not from the model's files. */
  readonly isFromCache: boolean;
  readonly kvBytes: number;
  readonly kvBytesPerToken: number;
  /** Working memory of a step. */
  readonly scratchBytes: number;
  readonly precision: 'fast' | 'exact';
  readonly layouts: Readonly<Partial<Record<ComputeLayout, number>>>;
  readonly hasChatTemplate: boolean;
  readonly tasks: readonly ModelTask[];
  /** Numbers of an embedding; null for classifiers. */
  readonly embeddingSize: number | null;
  /** Labels of a classifier; empty for other models. */
  readonly labels: readonly string[];
  readonly chat: ChatSupport;
  readonly eosTokens: readonly number[];
  /** The model that guesses; null for none. Its memory comes on top. */
  readonly draftModel: DraftModelInfo | null;
  /** What was passed over in the files, e.g. a tokenizer that is absent. */
  readonly warnings: readonly Warning[];
}

export interface TokenizeOptions {
  /** Adds what the tokenizer's post-processor adds (BOS, ...). Default false. */
  readonly addSpecialTokens?: boolean;
  /** Special tokens written in the text are parsed as such. Default false. */
  readonly parseSpecialTokens?: boolean;
}

export interface LogitsOptions {
  /** Positions whose next-token logits are wanted; negative ones count from the end. Default [-1]. */
  readonly positions?: readonly number[];
  /** Name of a loaded adapter. Default: none, the base model. */
  readonly adapter?: string;
  readonly signal?: AbortSignal;
}

/** What a model can do. A language model embeds too, once it is told which hidden states to take. */
export type ModelTask = 'generate' | 'embed' | 'classify' | 'rerank';

/** Which hidden states make an embedding: the first token's, the mean of all, the last token's. */
export type EmbeddingPooling = 'first' | 'mean' | 'last';

/** What `embed`, `classify` and `rerank` have in common. */
export interface PooledOptions {
  /** Cuts texts that are too long; the result says which. Default false: they are refused. */
  readonly truncate?: boolean;
  /** Higher runs first, -100..100, default 0. */
  readonly priority?: number;
  /** Milliseconds from the call until it fails with `deadline_exceeded`. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

export interface EmbedOptions extends PooledOptions {
  /** Keeps this many numbers of each vector (Matryoshka models). Default: all. */
  readonly dimensions?: number;
  /** Scales each vector to length 1, after `dimensions`. Default: as the model's files say. */
  readonly normalize?: boolean;
  /** Default: as the model's files say; required where they do not. */
  readonly pooling?: EmbeddingPooling;
  /** Name of a prompt in the model's files, put before each text. Default: the files' default prompt, if any. */
  readonly prompt?: string;
}

export interface PooledUsage {
  readonly promptTokens: number;
}

export interface EmbedResult {
  /** One vector per text, in their order. */
  readonly embeddings: readonly Float32Array[];
  readonly usage: PooledUsage;
  /** Indices of the texts that were cut. */
  readonly truncated: readonly number[];
}

export interface ClassifyOptions extends PooledOptions {
  /** Gives the model's raw numbers instead of softmax or sigmoid scores. Default false. */
  readonly raw?: boolean;
}

export interface LabelScore {
  readonly label: string;
  readonly score: number;
}

export interface ClassifyResult {
  /** For each input every label, best first. */
  readonly results: readonly (readonly LabelScore[])[];
  readonly usage: PooledUsage;
  readonly truncated: readonly number[];
}

export interface RerankOptions extends ClassifyOptions {
  /** Results at most. Default: all documents. */
  readonly topN?: number;
}

export interface RerankResult {
  /** Best first; `index` is the document's. */
  readonly results: readonly { readonly index: number; readonly score: number }[];
  readonly usage: PooledUsage;
  readonly truncated: readonly number[];
}

export interface ScoreOptions {
  /** Name of a loaded adapter. Default: none, the base model. */
  readonly adapter?: string;
  readonly signal?: AbortSignal;
}

/** A loaded model. Every method of a closed one rejects with `engine_closed`. */
export interface Model extends AsyncDisposable {
  readonly id: string;
  readonly info: ModelInfo;
  /** Text alone is a user's message to a model with a chat template, and a raw prompt to one without. */
  generate(input: string | GenerateOptions): Generation;
  tokenize(text: string, options?: TokenizeOptions): Promise<Int32Array>;
  detokenize(
    tokens: readonly number[] | Int32Array,
    options?: { readonly skipSpecialTokens?: boolean },
  ): Promise<string>;
  countTokens(
    input:
      | string
      | {
          readonly messages: readonly ChatMessage[];
          readonly tools?: readonly ToolDefinition[];
          readonly templateOptions?: Readonly<Record<string, unknown>>;
        },
  ): Promise<number>;
  /** The prompt text the chat template makes. */
  renderPrompt(
    messages: readonly ChatMessage[],
    templateOptions?: Readonly<Record<string, unknown>>,
    tools?: readonly ToolDefinition[],
  ): Promise<string>;
  /** Float32Array [positions * vocabSize]: raw next-token logits. */
  logits(tokens: readonly number[] | Int32Array, options?: LogitsOptions): Promise<Float32Array>;
  /** Log-probability of each token given those before it: [tokens - 1]. */
  score(tokens: readonly number[] | Int32Array, options?: ScoreOptions): Promise<Float32Array>;
  /**
   * One vector per text, computed together with whatever else runs. Token ids are taken as they are, without special
   * tokens. Text over the model's length is `context_length_exceeded` unless `truncate` is set.
   */
  embed(
    texts: string | readonly (string | readonly number[] | Int32Array)[],
    options?: EmbedOptions,
  ): Promise<EmbedResult>;
  /** Labels with scores of texts or pairs of texts, by a model with a classification head. */
  classify(
    inputs: string | readonly (string | readonly [string, string])[],
    options?: ClassifyOptions,
  ): Promise<ClassifyResult>;
  /** Documents by their relevance to a query, by a cross encoder: a model with one label. */
  rerank(query: string, documents: readonly string[], options?: RerankOptions): Promise<RerankResult>;
  /** Those that new requests may name. */
  readonly adapters: readonly Adapter[];
  /**
   * Reads a low-rank adapter beside whatever runs; at most 64 per model. Requests with different adapters and without one
   * share a batch. Errors: `model_not_found`, `invalid_model_file` (also for an adapter of another base),
   * `unsupported_model`, `invalid_parameter` (name taken, too many), `out_of_memory`, `aborted`.
   */
  loadAdapter(source: string | LoadAdapterOptions): Promise<Adapter>;
  stats(): Promise<ModelStats>;
  close(): Promise<void>;
}

/** Owns the native threads and its models. */
export interface Engine extends AsyncDisposable {
  readonly binary: BinaryInfo;
  readonly threads: number;
  readonly models: readonly Model[];
  loadModel(source: string | LoadModelOptions): Promise<Model>;
  stats(): Promise<EngineStats>;
  close(): Promise<void>;
}
