import { readFile } from 'node:fs/promises';
import { createEngine } from '../engine/create-engine';
import type { Engine, LoadModelOptions, Logger, Model } from '../engine/types';
import { AutoglmError } from '../errors';
import { loadAdapters } from './adapters';
import { engineOptions, loadOptions, type ModelFlags } from './options';
import { ProgressDisplay } from './progress-display';
import { terminalLogger } from './terminal';

export interface OpenedModels {
  readonly engine: Engine;
  readonly models: readonly Model[];
}

/** Starts an engine and loads models and adapters, showing progress; closes everything when one cannot be loaded. */
export async function openModels(
  sources: readonly string[],
  flags: ModelFlags,
  signal: AbortSignal,
  settings: Partial<LoadModelOptions> = {},
): Promise<OpenedModels> {
  const display = new ProgressDisplay(process.stderr);
  const logger: Logger = (record) => {
    display.clear();
    // A file as large as the model is news to who has not asked for it.
    const isNews = record.fields?.code === 'packed_weights_kept' && flags.quiet !== true;
    terminalLogger(flags.verbose === true || isNews)(record);
  };
  const engine = await createEngine({ ...engineOptions(flags), logger });
  try {
    const template = await readTemplate(flags.chatTemplate);
    const shared = {
      signal,
      ...(flags.quiet === true ? {} : { onProgress: display.update.bind(display) }),
    };
    const models: Model[] = [];
    for (const source of sources) {
      const options = {
        ...loadOptions(source, flags),
        ...template,
        ...settings,
        ...shared,
      };
      models.push(await engine.loadModel(options));
    }
    await loadAdapters(models, flags.adapter ?? [], { ...shared, offline: flags.offline === true });
    return { engine, models };
  } catch (error) {
    await engine.close();
    throw error;
  } finally {
    display.clear();
  }
}

/** Opens one model for the time of `use`. */
export async function withModel<T>(
  source: string,
  flags: ModelFlags,
  signal: AbortSignal,
  use: (model: Model, engine: Engine) => Promise<T>,
  settings: Partial<LoadModelOptions> = {},
): Promise<T> {
  const { engine, models } = await openModels([source], flags, signal, settings);
  try {
    const [model] = models;
    if (model === undefined) throw new AutoglmError('internal', `${source}: loaded, but there is no model`);
    return await use(model, engine);
  } finally {
    await engine.close();
  }
}

async function readTemplate(path: string | undefined): Promise<{ readonly chatTemplate?: string }> {
  if (path === undefined) return {};
  return { chatTemplate: await readTextFile(path, 'the chat template') };
}

/** A text file that the command line names; what cannot be read is the caller's mistake. */
export async function readTextFile(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new AutoglmError('invalid_parameter', `${path}: ${what} cannot be read (${code})`, {
      cause: error,
    });
  }
}
