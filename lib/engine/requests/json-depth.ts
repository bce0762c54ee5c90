import { AutoglmError } from '../../errors';
import { MAX_JSON_DEPTH } from '../limits';
import { invalidParameter, isWellFormed, plainObject } from '../parameters';

/**
 * Refuses what is no JSON and what is too deep: schemas and arguments come from far away, and neither a deep value nor one
 * that holds itself may exhaust a stack.
 */
export function checkJson(path: string, value: unknown, depth = 0): void {
  if (depth > MAX_JSON_DEPTH) {
    throw new AutoglmError(
      'invalid_parameter',
      `expected ${path} to have at most ${MAX_JSON_DEPTH} objects and arrays inside each other, got more`,
      {
        hint: 'Flatten it; in a schema, share parts with $ref.',
        details: { path, allowed: MAX_JSON_DEPTH },
      },
    );
  }
  if (value === null || value === undefined || typeof value === 'boolean') return;
  if (typeof value === 'string' && isWellFormed(value)) return;
  if (typeof value === 'number' && Number.isFinite(value)) return;
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) checkJson(`${path}[${i}]`, item, depth + 1);
  } else if (plainObject.accepts(value) && !('toJSON' in value)) {
    for (const [key, item] of Object.entries(value)) {
      if (!isWellFormed(key)) throw invalidParameter(`a key of ${path}`, 'text without lone surrogates', key);
      checkJson(`${path}.${key.slice(0, 64)}`, item, depth + 1);
    }
  } else throw invalidParameter(path, 'a JSON value', value);
}
