import { basename } from 'node:path';
import { AutoglmError } from '../errors';
import { EngineThread } from './engine-thread';
import { checkKvDtype, type EngineSettings, type ParsedLoadOptions, parseLoadOptions } from './load-options';
import type { LocalModel } from './local-model';
import { loadAborted, loadLocalModel } from './model-load';
import type { EngineStats, ModelStats } from './stats-types';
import { TextWorkers } from './text/text-workers';
import type { TextService } from './text/types';
import type { BinaryInfo, Engine, LoadModelOptions, Logger, Model } from './types';

/** Engines that were dropped without being closed: their threads and memory go with them. */
const dropped = new FinalizationRegistry<() => void>((close) => close());

/** An engine in this process: one engine worker, two text workers, any number of models. */
export class LocalEngine implements Engine {
  readonly #thread: EngineThread;
  readonly #text: TextService;
  readonly #logger: Logger;
  readonly #models = new Map<string, LocalModel>();
  readonly #loading = new Map<AbortController, Promise<LocalModel>>();
  /** Ids given out, also to models that are still loading. */
  readonly #ids = new Set<string>();
  #numModels = 0;
  #closing: Promise<void> | null = null;

  private constructor(thread: EngineThread, text: TextService, logger: Logger) {
    this.#thread = thread;
    this.#text = text;
    this.#logger = logger;
    const close = (): void => {
      Promise.all([thread.close(), text.close()]).catch((error: unknown) => {
        logger({ level: 'warn', text: `closing a dropped engine: ${String(error)}` });
      });
    };
    dropped.register(this, close, this);
  }

  static async start({ device, threads, logger }: EngineSettings): Promise<LocalEngine> {
    const text = new TextWorkers();
    text.start(); // beside the engine worker: the first load waits for both
    try {
      return new LocalEngine(await EngineThread.start(device, threads, logger), text, logger);
    } catch (error) {
      await text.close();
      throw error;
    }
  }

  get binary(): BinaryInfo {
    return this.#thread.binary;
  }

  get threads(): number {
    return this.#thread.threads;
  }

  get models(): readonly Model[] {
    return [...this.#models.values()];
  }

  /** False once the engine is closed or its worker has died. */
  get isUsable(): boolean {
    return this.#closing === null && this.#thread.lost === null;
  }

  async loadModel(source: string | LoadModelOptions): Promise<Model> {
    const options = parseLoadOptions(source);
    this.#requireOpen();
    this.#checkGpuLayers(options.settings.gpuLayers);
    checkKvDtype(options.settings, this.binary);
    const controller = new AbortController();
    const { signal } = options;
    const onAbort = (): void => controller.abort(signal?.reason);
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    const loading = this.#load(options, controller.signal);
    this.#loading.set(controller, loading);
    try {
      return await loading;
    } finally {
      this.#loading.delete(controller);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async stats(): Promise<EngineStats> {
    this.#requireOpen();
    const models: Record<string, ModelStats> = {};
    await Promise.all(
      [...this.#models].map(async ([id, model]) => {
        models[id] = await model.stats();
      }),
    );
    return { threads: this.threads, models };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    dropped.unregister(this);
    for (const controller of this.#loading.keys()) controller.abort(closedError());
    await Promise.allSettled(this.#loading.values());
    await Promise.all([...this.#models.values()].map((model) => model.close()));
    await Promise.all([this.#thread.close(), this.#text.close()]);
  }

  async #load(options: ParsedLoadOptions, signal: AbortSignal): Promise<LocalModel> {
    this.#numModels += 1;
    const number = this.#numModels;
    const id = this.#newId(options.source);
    try {
      const model = await loadLocalModel(options, {
        id,
        number,
        thread: this.#thread,
        text: this.#text,
        logger: this.#logger,
        signal,
        onClosed: () => this.#forget(id),
      });
      this.#models.set(id, model);
      if (!signal.aborted) return model;
      await model.close();
      throw loadAborted(signal);
    } catch (error) {
      this.#ids.delete(id);
      throw this.#closing === null ? error : closedError();
    }
  }

  /** Null: whatever there is. */
  #checkGpuLayers(gpuLayers: number | null): void {
    if (gpuLayers === null || this.binary.gpu !== null) return;
    throw new AutoglmError(
      'invalid_parameter',
      `expected gpuLayers to be absent or "auto" on an engine without a GPU, got ${gpuLayers}`,
      {
        hint: 'createEngine({ device: "cuda" }) makes an engine with one.',
        details: { path: 'gpuLayers', found: gpuLayers, allowed: '"auto"' },
      },
    );
  }

  #requireOpen(): void {
    if (this.#closing !== null) throw closedError();
    if (this.#thread.lost !== null) throw this.#thread.lost;
  }

  /** The file's or repository's own name; a second model of the same name gets a number. */
  #newId(source: string): string {
    const name = basename(source.replace(/^[a-z]+:/, '').replace(/[?#].*$/, '')).replace(
      /\.(gguf|safetensors)$/,
      '',
    );
    let id = name;
    for (let n = 2; this.#ids.has(id); n += 1) id = `${name}#${n}`;
    this.#ids.add(id);
    return id;
  }

  #forget(id: string): void {
    this.#models.delete(id);
    this.#ids.delete(id);
  }
}

function closedError(): AutoglmError {
  return new AutoglmError('engine_closed', 'the engine is closed');
}
