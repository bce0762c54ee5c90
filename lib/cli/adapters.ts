import { InvalidArgumentError } from 'commander';
import type { LoadAdapterOptions } from '../engine/load-types';
import type { Model } from '../engine/types';
import { AutoglmError } from '../errors';

/** An adapter that the command line asks for. */
export interface AdapterFlag {
  /** The id of its base model; null for the only model. */
  readonly model: string | null;
  readonly name: string;
  readonly source: string;
}

/** `NAME=SOURCE`, or `MODEL:NAME=SOURCE` as requests name it. Each name once per model. */
export function collectAdapter(text: string, list: readonly AdapterFlag[] = []): readonly AdapterFlag[] {
  const equals = text.indexOf('=');
  const colon = text.lastIndexOf(':', equals);
  const model = colon < 0 ? null : text.slice(0, colon);
  const name = text.slice(colon + 1, equals);
  const source = text.slice(equals + 1);
  if (equals < 0 || model === '' || name === '' || source === '') {
    throw new InvalidArgumentError('Expected NAME=SOURCE or MODEL:NAME=SOURCE.');
  }
  if (list.some((other) => other.model === model && other.name === name)) {
    throw new InvalidArgumentError(`The name "${text.slice(0, equals)}" is taken.`);
  }
  return [...list, { model, name, source }];
}

/** The adapter of a command that answers with one; its name shows nowhere. */
export function onlyAdapter(source: string): readonly AdapterFlag[] {
  return [{ model: null, name: 'adapter', source }];
}

/** What a request to that model adds to use it. */
export function chosenAdapter(model: Model): { readonly adapter?: string } {
  const [adapter] = model.adapters;
  return adapter === undefined ? {} : { adapter: adapter.name };
}

/** Without a model's id in front, a name says enough only when one model is loaded. */
export function checkAdapterBases(flags: readonly AdapterFlag[], numModels: number): void {
  const nameless = flags.find(({ model }) => model === null);
  if (nameless === undefined || numModels === 1) return;
  const { name, source } = nameless;
  throw new AutoglmError(
    'invalid_parameter',
    `--adapter ${name}=${source}: expected the base model in front of the name, as ${numModels} models are loaded`,
    { hint: `Write MODEL:${name}=${source}, as requests name the adapter.` },
  );
}

/** Loads each adapter into its base. All bases are looked up before the first adapter is read. */
export async function loadAdapters(
  models: readonly Model[],
  flags: readonly AdapterFlag[],
  options: Omit<LoadAdapterOptions, 'source' | 'name'>,
): Promise<void> {
  const placed = flags.map((flag) => ({ ...flag, base: baseOf(models, flag) }));
  for (const { base, name, source } of placed) await base.loadAdapter({ ...options, name, source });
}

function baseOf(models: readonly Model[], { model, name, source }: AdapterFlag): Model {
  const base = model === null ? models[0] : models.find(({ id }) => id === model);
  if (base !== undefined) return base;
  const allowed = models.map(({ id }) => id);
  throw new AutoglmError(
    'invalid_parameter',
    `--adapter ${model}:${name}=${source}: expected a model that is served (${allowed.join(', ')}), got ${model}`,
    { details: { found: model, allowed } },
  );
}
