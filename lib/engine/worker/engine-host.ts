import { AutoglmError, serializeError } from '../../errors';
import type { ModelHandle } from '../../native/addon';
import { loadAddon } from '../../native/loader';
import { Scheduler } from '../../scheduler/scheduler';
import { chooseGpus, gpuInfo } from './gpu';
import { loadModel } from './model-loading';
import { ModelRunner } from './model-runner';
import type { NativeEngine } from './native-engine';
import type { PackedWeights } from './packed-weights';
import type { EngineAnswers, EngineCommand, EngineReport, EngineWorkerData, LoadCommand } from './protocol';

type Post = (report: EngineReport, transfer?: ArrayBuffer[]) => void;

/**
 * The engine worker's inside: one addon engine, one runner per model. Commands are handled in the order in which they
 * arrive; nothing here blocks, so a step callback is never late.
 */
export class EngineHost {
  readonly #engine: NativeEngine;
  readonly #post: Post;
  readonly #runners = new Map<number, ModelRunner>();
  readonly #runnersByHandle = new Map<ModelHandle, ModelRunner>();
  readonly #packedWeights = new Map<number, readonly PackedWeights[]>();
  #isClosed = false;

  /** Throws what the loader throws, and `invalid_parameter` for an instruction set the processor lacks or a GPU of no use. */
  constructor({ device, threads }: EngineWorkerData, post: Post) {
    const { addon, path, candidates, isa, cpu } = loadAddon({ variant: device.variant });
    const gpus = device.variant === 'cuda' ? chooseGpus(addon, device.gpuIndices) : [];
    const numThreads = threads ?? cpu.numCores;
    this.#post = post;
    const handle = addon.createEngine({ threads: numThreads, isa }, (model, slot, hasMore) => {
      try {
        this.#runnersByHandle.get(model)?.stepFinished(model, slot, hasMore);
      } catch (error) {
        // Node-API drops what a callback throws; from here it ends the worker, and every caller hears of it.
        setImmediate(() => {
          throw error;
        });
      }
    });
    this.#engine = { addon, handle, cpu, gpus, usesAllGpus: device.gpuIndices !== null, threads: numThreads };
    post({
      type: 'started',
      threads: numThreads,
      numCores: cpu.numCores,
      binary: {
        path,
        variant: device.variant,
        gpu: gpus[0] === undefined ? null : gpuInfo(gpus[0]),
        gpus: gpus.map(gpuInfo),
        isa: cpu.isa,
        supportedIsas: cpu.supported,
        abiVersion: addon.abiVersion,
        candidates,
      },
    });
  }

  handle(command: EngineCommand): void {
    switch (command.type) {
      case 'add':
        this.#runners.get(command.model)?.add(command.request);
        return;
      case 'abort':
        this.#runners.get(command.model)?.abort(command.id);
        return;
      case 'credit':
        this.#runners.get(command.model)?.credit(command.id, command.credit);
        return;
      case 'load':
        void this.#load(command);
        return;
      case 'stats':
        this.#answer(command.call, async () => this.#runnerOf(command.model).stats());
        return;
      case 'loadAdapter':
        this.#answer(command.call, () => this.#runnerOf(command.model).loadAdapter(command.request));
        return;
      case 'unloadAdapter':
        this.#answer(command.call, () => this.#runnerOf(command.model).unloadAdapter(command.adapter));
        return;
      case 'closeModel':
        this.#answer(command.call, () => this.#closeModel(command.model));
        return;
      case 'close':
        this.#answer(command.call, () => this.#close());
        return;
    }
  }

  async #load(command: LoadCommand): Promise<void> {
    const { model } = command;
    const tellProgress = (loaded: number, total: number): void =>
      this.#post({ type: 'loadProgress', model, loaded, total });
    try {
      const loaded = await loadModel(this.#engine, command, tellProgress);
      if (this.#isClosed) throw new AutoglmError('engine_closed', 'the engine is closed');
      const { target, draft, scheduler, summary } = loaded;
      const core = new Scheduler(scheduler);
      const runner = new ModelRunner(model, {
        addon: this.#engine.addon,
        target,
        draft,
        core,
        post: this.#post,
      });
      const natives = draft === null ? [target] : [target, draft];
      this.#runners.set(model, runner);
      for (const { handle } of natives) this.#runnersByHandle.set(handle, runner);
      this.#post({ type: 'loaded', model, summary });
      this.#packedWeights.set(
        model,
        natives.map(({ packedWeights }) => packedWeights),
      );
      // A GPU's load uses what is kept, but the packed weights themselves are gone from the host's memory.
      for (const { handle, packedWeights } of this.#engine.gpus.length === 0 ? natives : []) {
        packedWeights.keep(this.#engine.addon, handle, this.#engine.threads, (record) =>
          this.#post({ type: 'log', record }),
        );
      }
    } catch (error) {
      this.#post({ type: 'loadFailed', model, error: serializeError(error) });
    }
  }

  #runnerOf(model: number): ModelRunner {
    const runner = this.#runners.get(model);
    if (runner === undefined) throw new AutoglmError('engine_closed', 'the model is closed');
    return runner;
  }

  #answer(call: number, body: () => Promise<EngineAnswers[keyof EngineAnswers]>): void {
    Promise.resolve()
      .then(body)
      .then(
        (value) => this.#post({ type: 'answer', call, value }),
        (error: unknown) => this.#post({ type: 'refusal', call, error: serializeError(error) }),
      );
  }

  async #closeModel(model: number): Promise<null> {
    const runner = this.#runners.get(model);
    this.#runners.delete(model);
    await Promise.all((this.#packedWeights.get(model) ?? []).map((packed) => packed.finish()));
    this.#packedWeights.delete(model);
    await runner?.close();
    for (const [handle, other] of this.#runnersByHandle) {
      if (other === runner) this.#runnersByHandle.delete(handle);
    }
    return null;
  }

  async #close(): Promise<null> {
    this.#isClosed = true;
    await Promise.all([...this.#runners.keys()].map((model) => this.#closeModel(model)));
    await this.#engine.addon.closeEngine(this.#engine.handle);
    return null;
  }
}
