import type { MessagePort } from 'node:worker_threads';
import type { MarkedText } from '../../chat/mark-markup';
import type { PromptFormat } from '../../chat/prompt';
import { exceeded, TemplateLimits } from '../../chat/template-budget';
import { AutoglmError, serializeError } from '../../errors';
import type { AdapterDescription } from '../../model/adapters/adapter-description';
import type { EncoderInput, EncoderInputRequest } from '../../tokenizer/encoder-input';
import type { EncodeOptions } from '../../tokenizer/tokenizer';
import type { Numbered, RenderCommand, RenderNotice, TextCommand, TextNotice, TextResults } from './protocol';
import { aborted, SerialQueue } from './serial-queue';
import { TextThread } from './text-thread';
import type {
  DecoderMessage,
  LoadedText,
  RenderedPrompt,
  RenderRequest,
  TextModelRequest,
  TextService,
  TokenizeRequest,
} from './types';

/**
 * Wall time of one rendering, after which its thread is ended. A template that evaluates step by step stops itself after
 * TemplateLimits.timeMs; this is for one that is stuck inside a single step, and generous because a busy machine may not
 * let the thread run at all for a while.
 */
const RENDER_DEADLINE_MS = 1_000;
/** The largest allowed prompt with everything made on the way takes a tenth of it. */
const RENDER_HEAP_MB = 256;

interface LoadedModel {
  readonly path: string;
  readonly format: PromptFormat;
  /** The starts of the threads that know the model: a thread that was started again has forgotten it. */
  textGeneration: number;
  renderGeneration: number;
}

/** The two text threads: one opens checkpoints and tokenizes, one renders templates and may be ended at any time. */
export class TextWorkers implements TextService {
  readonly #text = new TextThread({
    file: 'text-worker.js',
    crashed: (cause) =>
      new AutoglmError('engine_failed', `the text worker ended: ${messageOf(cause)}`, { cause }),
  });
  readonly #render = new TextThread({
    file: 'render-worker.js',
    resourceLimits: { maxOldGenerationSizeMb: RENDER_HEAP_MB },
    crashed: renderCrashed,
  });
  readonly #textQueue = new SerialQueue();
  readonly #renderQueue = new SerialQueue();
  readonly #models = new Map<string, LoadedModel>();
  #isClosed = false;

  /** Starts the thread that opens checkpoints ahead of the first load. */
  start(): void {
    this.#text.start();
  }

  async loadModel({
    modelId,
    path,
    chatTemplate,
    chatDialect,
    decoderPort,
    signal,
  }: TextModelRequest): Promise<LoadedText> {
    let generation = 0;
    try {
      this.#checkOpen();
      if (signal?.aborted === true) throw aborted(signal);
      const { loaded, format } = await this.#load(
        { type: 'load', modelId, path, chatTemplate, chatDialect, decoderPort },
        signal,
        () => {
          generation = this.#text.generation;
        },
      );
      this.#models.set(modelId, { path, format, textGeneration: generation, renderGeneration: 0 });
      // It will be wanted soon, and starting takes a while; before this it would only slow the load down.
      if (loaded.hasChatTemplate) this.#render.start();
      return loaded;
    } catch (error) {
      // A port that was posted is the worker's, which has told it.
      if (generation === 0) failPort(decoderPort, error);
      throw error;
    }
  }

  tokenize(modelId: string, text: string, request: TokenizeRequest): Promise<Int32Array> {
    const { addSpecialTokens, parseSpecialTokens, signal } = request;
    return this.#tokenize(modelId, text, { addSpecialTokens, parseSpecialTokens, plainRanges: [] }, signal);
  }

  async encodeInput(
    modelId: string,
    request: EncoderInputRequest,
    signal: AbortSignal | undefined,
  ): Promise<EncoderInput> {
    const input = await this.#callText(
      modelId,
      (call) => ({ type: 'encodeInput', call, modelId, ...request }),
      signal,
    );
    return input as TextResults['encodeInput'];
  }

  async describeAdapter(modelId: string, path: string, signal: AbortSignal): Promise<AdapterDescription> {
    const described = await this.#callText(
      modelId,
      (call) => ({ type: 'describeAdapter', call, modelId, path }),
      signal,
    );
    return described as TextResults['describeAdapter'];
  }

  async render(modelId: string, request: RenderRequest): Promise<string> {
    return (await this.#renderMarked(modelId, request)).text;
  }

  async renderAndTokenize(modelId: string, request: RenderRequest): Promise<RenderedPrompt> {
    const prompt = await this.#renderMarked(modelId, request);
    const begun = request.begin?.(prompt) ?? '';
    const { text, plainRanges } = prompt;
    const options = { addSpecialTokens: false, parseSpecialTokens: true, plainRanges };
    return { prompt, begun, tokens: await this.#tokenize(modelId, text + begun, options, request.signal) };
  }

  unloadModel(modelId: string): void {
    this.#models.delete(modelId);
    const notice: TextNotice = { type: 'unload', modelId };
    const forget: RenderNotice = { type: 'forget', modelId };
    this.#text.notify(notice);
    this.#render.notify(forget);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#models.clear();
    const error = closed();
    this.#textQueue.rejectWaiting(error);
    this.#renderQueue.rejectWaiting(error);
    await Promise.all([this.#text.terminate(error), this.#render.terminate(error)]);
  }

  async #load(
    command: Extract<TextCommand, { type: 'load' }>,
    signal: AbortSignal | undefined,
    onPosted: () => void,
  ): Promise<TextResults['load']> {
    const { decoderPort } = command;
    const transfer = decoderPort === null ? [] : [decoderPort];
    const reply = this.#abortable((call) => ({ ...command, call }), signal, transfer);
    onPosted();
    return (await reply) as TextResults['load'];
  }

  /** A call that the text worker ends early, with `aborted`, when the signal says so. */
  async #abortable(
    makeCommand: (call: number) => Numbered<TextCommand>,
    signal: AbortSignal | undefined,
    transfer: readonly MessagePort[] = [],
  ): Promise<unknown> {
    let abort: (() => void) | null = null;
    const reply = this.#text.call(
      (call) => {
        abort = () => this.#text.notify({ type: 'abort', call } satisfies TextNotice);
        return makeCommand(call);
      },
      { transfer },
    );
    const onAbort = (): void => abort?.();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await reply;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async #tokenize(
    modelId: string,
    text: string,
    options: Required<EncodeOptions>,
    signal: AbortSignal | undefined,
  ): Promise<Int32Array> {
    const tokens = await this.#callText(
      modelId,
      (call) => ({ type: 'tokenize', call, modelId, text, ...options }),
      signal,
    );
    return tokens as TextResults['tokenize'];
  }

  async #callText(
    modelId: string,
    makeCommand: (call: number) => Numbered<TextCommand>,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    this.#model(modelId);
    return this.#textQueue.run(async () => {
      const model = this.#model(modelId);
      if (!this.#text.isRunning || model.textGeneration !== this.#text.generation) {
        await this.#reopen(modelId, model);
      }
      return this.#abortable(makeCommand, signal);
    }, signal);
  }

  /** The text worker has ended since the model was loaded: a new one gets its tokenizer. */
  async #reopen(modelId: string, model: LoadedModel): Promise<void> {
    const { path } = model;
    await this.#load(
      { type: 'load', modelId, path, chatTemplate: null, chatDialect: null, decoderPort: null },
      undefined,
      () => {
        model.textGeneration = this.#text.generation;
      },
    );
  }

  async #renderMarked(modelId: string, request: RenderRequest): Promise<MarkedText> {
    const { messages, tools = null, templateOptions = {}, addGenerationPrompt = true, signal } = request;
    this.#model(modelId);
    return this.#renderQueue.run(async () => {
      const model = this.#model(modelId);
      this.#render.start();
      if (model.renderGeneration !== this.#render.generation) {
        const notice: RenderNotice = { type: 'format', modelId, format: model.format };
        this.#render.notify(notice);
        model.renderGeneration = this.#render.generation;
      }
      return this.#renderWithin(RENDER_DEADLINE_MS, {
        type: 'render',
        modelId,
        input: { messages, tools, templateOptions, addGenerationPrompt },
      });
    }, signal);
  }

  async #renderWithin(deadlineMs: number, command: RenderCommand): Promise<MarkedText> {
    let timer: NodeJS.Timeout | undefined;
    const onBegan = (): void => {
      timer = setTimeout(() => {
        void this.#render.terminate(exceeded('timeMs', TemplateLimits.timeMs));
      }, deadlineMs);
    };
    try {
      const reply = this.#render.call((call): Numbered<RenderCommand> => ({ ...command, call }), { onBegan });
      return (await reply) as MarkedText;
    } catch (error) {
      throw AutoglmError.is(error) ? error : notPostable(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #model(modelId: string): LoadedModel {
    this.#checkOpen();
    const model = this.#models.get(modelId);
    if (model === undefined) throw new AutoglmError('engine_closed', `the model ${modelId} is closed`);
    return model;
  }

  #checkOpen(): void {
    if (this.#isClosed) throw closed();
  }
}

function closed(): AutoglmError {
  return new AutoglmError('engine_closed', 'the engine is closed');
}

function failPort(port: TextModelRequest['decoderPort'], error: unknown): void {
  const message: DecoderMessage = { type: 'failed', error: serializeError(error) };
  port.postMessage(message);
  port.close();
}

function renderCrashed(cause: unknown): AutoglmError {
  if ((cause as { code?: unknown }).code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return exceeded('memory', TemplateLimits.memory);
  }
  return new AutoglmError('engine_failed', `the render worker ended: ${messageOf(cause)}`, { cause });
}

function notPostable(cause: unknown): AutoglmError {
  return new AutoglmError(
    'invalid_parameter',
    `expected messages, tools and templateOptions to be JSON values: ${messageOf(cause)}`,
    { cause },
  );
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
