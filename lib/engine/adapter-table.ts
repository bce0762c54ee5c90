import { basename } from 'node:path';
import { AutoglmError } from '../errors';
import { resolveSource } from '../model/source/resolve-source';
import type { NativeAdapter, NativeAdapterRequest } from '../native/addon';
import type { EngineThread } from './engine-thread';
import { MAX_ADAPTERS } from './limits';
import type { Adapter, AdapterInfo, LoadAdapterOptions, LoadProgress } from './load-types';
import {
  abortSignal,
  boolean,
  type Check,
  callback,
  invalidParameter,
  numberIn,
  parseObject,
  text,
} from './parameters';
import { progressTeller } from './progress-teller';
import type { ModelStats } from './stats-types';
import type { TextService } from './text/types';
import type { Logger } from './types';

export interface AdapterTableParts {
  /** The model's name for the text workers, and its number in the engine worker. */
  readonly id: string;
  readonly number: number;
  readonly thread: EngineThread;
  readonly text: TextService;
  readonly logger: Logger;
}

const MAX_SCALE = 100;

const adapterName: Check<string> = {
  allowed: 'a name of 1..64 letters, digits, ".", "_" and "-"',
  accepts: (value): value is string => typeof value === 'string' && /^[\w.-]{1,64}$/.test(value),
};

const LOAD_OPTIONS = {
  source: text(1, 4096),
  name: adapterName,
  scale: numberIn(-MAX_SCALE, MAX_SCALE),
  offline: boolean,
  onProgress: callback,
  signal: abortSignal,
};

interface ParsedAdapterOptions {
  readonly source: string;
  readonly name: string;
  readonly scale: number;
  readonly offline: boolean;
  readonly onProgress: (progress: LoadProgress) => void;
  readonly signal: AbortSignal | null;
}

/** The adapters of one model by name. A name is taken from the call that loads it until its adapter is gone. */
export class AdapterTable {
  readonly #parts: AdapterTableParts;
  readonly #names = new Set<string>();
  readonly #loaded = new Map<string, LoadedAdapter>();
  readonly #closing = new AbortController();

  constructor(parts: AdapterTableParts) {
    this.#parts = parts;
  }

  get adapters(): readonly Adapter[] {
    return [...this.#loaded.values()];
  }

  /** 0 for null. Throws `model_not_found` for a name that no adapter has. */
  numberOf(name: string | null): number {
    if (name === null) return 0;
    const adapter = this.#loaded.get(name);
    if (adapter !== undefined) return adapter.number;
    const names = [...this.#loaded.keys()];
    const known = names.length === 0 ? 'none is loaded' : `loaded are ${names.join(', ')}`;
    throw new AutoglmError(
      'model_not_found',
      `the model ${this.#parts.id} has no adapter ${JSON.stringify(name)}; ${known}`,
      {
        hint: 'Load it with model.loadAdapter.',
        details: { found: name, allowed: names },
      },
    );
  }

  statsOf(numRequests: ReadonlyMap<number, number>): ModelStats['adapters'] {
    return [...this.#loaded.values()].map(({ name, number }) => ({
      name,
      numRequests: numRequests.get(number) ?? 0,
    }));
  }

  async load(given: string | LoadAdapterOptions): Promise<Adapter> {
    const options = parseOptions(given);
    const { name } = options;
    if (this.#names.has(name)) {
      throw new AutoglmError('invalid_parameter', `the adapter name '${name}' is taken`, {
        hint: 'Close that adapter first, or give this one another name.',
        details: { path: 'name', found: name },
      });
    }
    if (this.#names.size >= MAX_ADAPTERS) {
      const message = `a model holds at most ${MAX_ADAPTERS} adapters; close one first`;
      throw new AutoglmError('invalid_parameter', message, { details: { allowed: MAX_ADAPTERS } });
    }
    this.#names.add(name);
    try {
      const adapter = await this.#load(options);
      this.#loaded.set(name, adapter);
      return adapter;
    } catch (error) {
      this.#names.delete(name);
      throw error;
    }
  }

  /** Stops what is being loaded; the model takes the others with it. */
  close(error: AutoglmError): void {
    this.#closing.abort(error);
    this.#loaded.clear();
  }

  async #load(options: ParsedAdapterOptions): Promise<LoadedAdapter> {
    const { source, name, scale, offline } = options;
    const { id, text, logger } = this.#parts;
    const { signal: closing } = this.#closing;
    const signal = options.signal === null ? closing : AbortSignal.any([options.signal, closing]);
    const tell = progressTeller(options.onProgress, logger);
    tell('resolve', { loaded: 0, total: null });
    const { path } = await resolveSource(source, {
      offline,
      signal,
      logger,
      onProgress: ({ file, loaded, total, bytesPerSecond }) =>
        tell('download', { file, loaded, total, bytesPerSecond }),
    });
    tell('parse', { loaded: 0, total: null });
    const { files, parts, format, baseModel, rank } = await text.describeAdapter(id, path, signal);
    const total = files.reduce((sum, { size }) => sum + size, 0);
    tell('weights', { loaded: 0, total });
    const scaled = parts.map((part) => ({ ...part, scale: part.scale * scale }));
    const native = await this.#read({ files, parts: scaled }, signal);
    tell('ready', { loaded: total, total });
    const info: AdapterInfo = { name, source, format, baseModel, rank, scale, bytes: native.bytes };
    return new LoadedAdapter(native.id, info, () => this.#unload(name, native.id));
  }

  async #read(request: Omit<NativeAdapterRequest, 'cancel'>, signal: AbortSignal): Promise<NativeAdapter> {
    const { thread, number } = this.#parts;
    const cancel = new Int32Array(new SharedArrayBuffer(4));
    const onAbort = (): void => {
      Atomics.store(cancel, 0, 1);
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await thread.call({ type: 'loadAdapter', model: number, request: { ...request, cancel } });
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #unload(name: string, adapter: number): Promise<void> {
    const { thread, number } = this.#parts;
    this.#loaded.delete(name);
    try {
      await thread.call({ type: 'unloadAdapter', model: number, adapter });
    } catch (error) {
      // A model that closes takes its adapters with it.
      if (thread.lost === null && !(AutoglmError.is(error) && error.code === 'engine_closed')) throw error;
    }
    this.#names.delete(name);
  }
}

class LoadedAdapter implements Adapter {
  readonly #unload: () => Promise<void>;
  #closing: Promise<void> | null = null;

  constructor(
    /** What native calls it. */
    readonly number: number,
    readonly info: AdapterInfo,
    unload: () => Promise<void>,
  ) {
    this.#unload = unload;
  }

  get name(): string {
    return this.info.name;
  }

  close(): Promise<void> {
    this.#closing ??= this.#unload();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function parseOptions(given: string | LoadAdapterOptions): ParsedAdapterOptions {
  const options = parseObject('options', typeof given === 'string' ? { source: given } : given, LOAD_OPTIONS);
  const { source, scale = 1, offline = false, signal = null } = options;
  if (source === undefined) throw invalidParameter('source', LOAD_OPTIONS.source.allowed, undefined);
  const name = options.name ?? basename(source).replace(/\.gguf$/, '');
  if (!adapterName.accepts(name)) throw invalidParameter('name', adapterName.allowed, name);
  const onProgress = (options.onProgress ?? (() => {})) as (progress: LoadProgress) => void;
  return { source, name, scale, offline, onProgress, signal };
}
