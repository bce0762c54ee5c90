import { Limits } from '../native/abi';
import { boolean, integer, invalidParameter, oneOf, parseObject } from './parameters';
import type { SpeculationSettings } from './worker/protocol';

const DEFAULT_MAX_TOKENS = 8;
const LOOKUP_OPTIONS = {
  mode: oneOf('prompt-lookup'),
  maxTokens: integer(1, Limits.maxDrafts),
  adaptive: boolean,
};
const ALLOWED = "'off' or an object such as { mode: 'prompt-lookup', maxTokens: 8 }";

/** Null for `off`. Throws `invalid_parameter`. */
export function parseSpeculation(value: unknown): SpeculationSettings | null {
  if (value === 'off') return null;
  if (typeof value !== 'object' || value === null) throw invalidParameter('speculation', ALLOWED, value);
  const options = parseObject('speculation', value, LOOKUP_OPTIONS);
  const { mode, maxTokens = DEFAULT_MAX_TOKENS, adaptive = true } = options;
  if (mode === undefined) throw invalidParameter('speculation.mode', LOOKUP_OPTIONS.mode.allowed, mode);
  return { mode, maxTokens, isAdaptive: adaptive };
}
