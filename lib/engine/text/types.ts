import type { MessagePort } from 'node:worker_threads';
import type { ChatFormat } from '../../chat/chat-format';
import type { DialectName } from '../../chat/dialects/dialect';
import type { MarkedText } from '../../chat/mark-markup';
import type { SerializedError } from '../../errors';
import type { AdapterDescription } from '../../model/adapters/adapter-description';
import type { CheckpointWarning } from '../../model/checkpoint-types';
import type { PooledOutput } from '../../model/families/pooled-output';
import type { NativeFile, NativeTensor } from '../../native/addon';
import type { DecoderSpec } from '../../native/decoder-spec';
import type { EncoderInput, EncoderInputRequest } from '../../tokenizer/encoder-input';
import type { TokenTable } from '../../tokenizer/token-table';
import type { SamplingOptions } from '../types';

/** A checkpoint to open on the text worker. */
export interface TextModelRequest {
  /** The caller's name for the model in later calls; unique among those loaded. */
  readonly modelId: string;
  /** GGUF file, safetensors file, or directory of a checkpoint. */
  readonly path: string;
  /** Jinja template to use instead of the checkpoint's; null for the checkpoint's own. */
  readonly chatTemplate: string | null;
  /** Null for what the checkpoint shows. */
  readonly chatDialect: DialectName | 'none' | null;
  /** One DecoderMessage is posted here, then the port is closed. The port itself is transferred. */
  readonly decoderPort: MessagePort;
  readonly signal?: AbortSignal;
}

/** What the engine worker gets over the port: plain data that the main thread never holds. */
export type DecoderMessage =
  | {
      readonly type: 'decoder';
      readonly spec: DecoderSpec;
      readonly files: readonly NativeFile[];
      readonly tensors: readonly NativeTensor[];
    }
  | { readonly type: 'failed'; readonly error: SerializedError };

/** Facts of a checkpoint that the main thread keeps. */
export interface CheckpointInfo {
  readonly family: string;
  readonly name: string | null;
  readonly format: 'gguf' | 'safetensors';
  readonly files: readonly string[];
  /** Tokens the model was made for. */
  readonly contextLength: number;
  /** Rows of the output head; token ids are below it. */
  readonly vocabSize: number;
  readonly numParameters: number;
  /** Bytes of all weights as stored. */
  readonly weightBytes: number;
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
}

export interface LoadedText {
  readonly info: CheckpointInfo;
  readonly tokenTable: TokenTable;
  /** Ids that end a generation: the checkpoint's end-of-sequence, end-of-turn and end-of-message tokens. */
  readonly eosTokens: readonly number[];
  /** Token that addSpecialTokens puts first, or null. */
  readonly bosToken: number | null;
  /** Settings of generation_config.json. */
  readonly generationDefaults: SamplingOptions;
  readonly hasChatTemplate: boolean;
  /** False for encoders and classifiers: they generate nothing. */
  readonly hasLanguageHead: boolean;
  /** What the vectors of `pool` requests are, and how many numbers they have. */
  readonly pooled: PooledOutput;
  readonly pooledSize: number;
  readonly chat: ChatFormat;
  /** Characters (UTF-16 units) a text may have; longer ones are refused before they are tokenized. */
  readonly maxTextLength: number;
  /** What was passed over in the files. */
  readonly warnings: readonly CheckpointWarning[];
}

export interface TokenizeRequest {
  /** Adds what the tokenizer's post-processor adds (BOS, ...). */
  readonly addSpecialTokens: boolean;
  /** Special tokens written in the text are parsed as such; otherwise they are plain text. */
  readonly parseSpecialTokens: boolean;
  readonly signal?: AbortSignal;
}

export interface RenderRequest {
  /** Chat messages as the template sees them; every string in them is untrusted and never becomes a special token. */
  readonly messages: readonly Readonly<Record<string, unknown>>[];
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | null;
  /** Further variables for the template, e.g. { enable_thinking: false }. */
  readonly templateOptions?: Readonly<Record<string, unknown>>;
  /** Ends with the head of an assistant turn. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** What is written in the assistant's name after a prompt; control tokens in it are such. Default: nothing. */
  readonly begin?: (prompt: MarkedText) => string;
  readonly signal?: AbortSignal;
}

export interface RenderedPrompt {
  /** What the template made. */
  readonly prompt: MarkedText;
  /** What `begin` added to it. */
  readonly begun: string;
  readonly tokens: Int32Array;
}

/** The client of the two text worker threads, on the main thread. Implemented by `TextWorkers` in text-workers.ts. */
export interface TextService {
  /**
   * Opens a checkpoint. Rejects with the codes of the model reader (`invalid_model_file`, `unsupported_model`, ...) or
   * `aborted`; where the decoder could not be described the port carries the same error.
   */
  loadModel(request: TextModelRequest): Promise<LoadedText>;
  /** Reads an adapter's headers. Rejects with the codes of `openAdapter`. */
  describeAdapter(modelId: string, path: string, signal: AbortSignal): Promise<AdapterDescription>;
  tokenize(modelId: string, text: string, request: TokenizeRequest): Promise<Int32Array>;
  /** One input of a model that makes a vector of it: one text or two, cut or refused when too long. */
  encodeInput(
    modelId: string,
    request: EncoderInputRequest,
    signal: AbortSignal | undefined,
  ): Promise<EncoderInput>;
  /** The prompt text alone. */
  render(modelId: string, request: RenderRequest): Promise<string>;
  renderAndTokenize(modelId: string, request: RenderRequest): Promise<RenderedPrompt>;
  /** Forgets a model; unknown ids are ignored. */
  unloadModel(modelId: string): void;
  /** Ends both threads. Pending and later calls reject with `engine_closed`. */
  close(): Promise<void>;
}
