import { parseEngineOptions } from './load-options';
import { LocalEngine } from './local-engine';
import type { Engine, EngineOptions, LoadModelOptions, Model } from './types';

let shared: Promise<LocalEngine> | null = null;

/**
 * Starts an engine in this process. Rejects with `no_binary` when no native binary fits, naming each one looked at, and
 * with `invalid_parameter`. It does not keep the process alive while nothing is pending.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  return LocalEngine.start(parseEngineOptions(options));
}

/** Loads a model into an engine that all callers of this function share; it is made on the first call. */
export async function loadModel(source: string | LoadModelOptions): Promise<Model> {
  const engine = await sharedEngine();
  return engine.loadModel(source);
}

/** The shared engine; a new one when that has failed. */
async function sharedEngine(): Promise<LocalEngine> {
  const current = shared;
  const engine = await current?.catch(() => null);
  if (engine?.isUsable) return engine;
  if (shared === current) shared = LocalEngine.start(parseEngineOptions({}));
  return shared as Promise<LocalEngine>;
}
