import type { Model } from '../../engine/types';
import { AutoglmError } from '../../errors';
import type { ServedModels } from '../options';
import type { WireModel } from '../wire/responses';

export function listModels(served: ServedModels): readonly Model[] {
  return served.models;
}

/** The model a request names. */
export function findModel(served: ServedModels, id: string, param: string): Model {
  const models = listModels(served);
  const model = models.find((candidate) => candidate.id === id);
  if (model !== undefined) return model;
  const loaded = models.map((candidate) => candidate.id).join(', ') || 'none';
  throw new AutoglmError(
    'model_not_found',
    `the model "${id.slice(0, 128)}" is not loaded; loaded: ${loaded}`,
    {
      details: { param, found: id.slice(0, 128), allowed: loaded },
    },
  );
}

export function toWireModel(model: Model, createdAt: number): WireModel {
  return {
    id: model.id,
    object: 'model',
    created: createdAt,
    owned_by: 'open-autoglm',
    max_model_len: model.info.contextLength,
    tasks: [...model.info.tasks],
  };
}
