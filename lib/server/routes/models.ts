import type { Model } from '../../engine/types';
import { AutoglmError } from '../../errors';
import type { ServedModels } from '../options';
import type { WireModel } from '../wire/responses';

export function listModels(served: ServedModels): readonly Model[] {
  return served.models;
}

/** A model, or a model with one of its adapters. */
export interface NamedModel {
  /** What requests call it: `base:adapter` for an adapter. */
  readonly id: string;
  readonly model: Model;
  readonly adapter: string | null;
}

/** Everything a request may name. */
export function listNamed(served: ServedModels): readonly NamedModel[] {
  return listModels(served).flatMap((model) => [
    { id: model.id, model, adapter: null },
    ...model.adapters.map(({ name }) => ({ id: `${model.id}:${name}`, model, adapter: name })),
  ]);
}

/** The model, or the model and adapter, that a request names. */
export function findNamed(served: ServedModels, id: string, param: string): NamedModel {
  return find(listNamed(served), id, param);
}

/** The model a request names, where adapters have no say. */
export function findModel(served: ServedModels, id: string, param: string): Model {
  const models = listNamed(served).filter(({ adapter }) => adapter === null);
  return find(models, id, param).model;
}

function find(named: readonly NamedModel[], id: string, param: string): NamedModel {
  const found = named.find((candidate) => candidate.id === id);
  if (found !== undefined) return found;
  const loaded = named.map((candidate) => candidate.id).join(', ') || 'none';
  throw new AutoglmError(
    'model_not_found',
    `the model "${id.slice(0, 128)}" is not loaded; loaded: ${loaded}`,
    {
      details: { param, found: id.slice(0, 128), allowed: loaded },
    },
  );
}

export function toWireModel({ id, model }: NamedModel, createdAt: number): WireModel {
  return {
    id,
    object: 'model',
    created: createdAt,
    owned_by: 'open-autoglm',
    max_model_len: model.info.contextLength,
    tasks: [...model.info.tasks],
  };
}
