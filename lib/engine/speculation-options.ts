import { AutoglmError } from '../errors';
import { Limits } from '../native/abi';
import { boolean, integer, invalidParameter, oneOf, parseObject, text } from './parameters';
import type { SpeculationSettings } from './worker/protocol';

const DEFAULT_MAX_TOKENS = 8;
const REQUEST_OPTIONS = {
  mode: oneOf('prompt-lookup', 'draft-model'),
  maxTokens: integer(1, Limits.maxDrafts),
  adaptive: boolean,
};
const LOAD_OPTIONS = { ...REQUEST_OPTIONS, draftModel: text(1, 4096) };
const ALLOWED = "'off' or an object such as { mode: 'prompt-lookup', maxTokens: 8 }";

export interface LoadSpeculationSettings {
  /** Of requests that do not say otherwise; null for `off`. */
  readonly speculation: SpeculationSettings | null;
  /** Source of the draft model; null for none. */
  readonly draftModel: string | null;
}

/** A request's wish; null for `off`. Throws `invalid_parameter`. */
export function parseSpeculation(value: unknown, hasDraftModel: boolean): SpeculationSettings | null {
  if (value === 'off') return null;
  const settings = settingsOf(parseObject('speculation', checkedObject(value), REQUEST_OPTIONS));
  if (settings.mode === 'draft-model' && !hasDraftModel) {
    throw new AutoglmError(
      'invalid_parameter',
      "expected speculation.mode to be 'prompt-lookup', got 'draft-model': the model was loaded without a draft model",
      {
        hint: "Load it with speculation: { mode: 'draft-model', draftModel: SOURCE }.",
        details: { path: 'speculation.mode', found: 'draft-model', allowed: 'prompt-lookup' },
      },
    );
  }
  return settings;
}

/** What a model is loaded with. Throws `invalid_parameter`. */
export function parseLoadSpeculation(value: unknown): LoadSpeculationSettings {
  if (value === 'off') return { speculation: null, draftModel: null };
  const options = parseObject('speculation', checkedObject(value), LOAD_OPTIONS);
  const speculation = settingsOf(options);
  const { draftModel = null } = options;
  const needsModel = speculation.mode === 'draft-model';
  if (needsModel !== (draftModel !== null)) {
    const allowed = needsModel ? 'the source of a model' : "absent unless the mode is 'draft-model'";
    throw invalidParameter('speculation.draftModel', allowed, draftModel ?? undefined);
  }
  return { speculation, draftModel };
}

function checkedObject(value: unknown): object {
  if (typeof value !== 'object' || value === null) throw invalidParameter('speculation', ALLOWED, value);
  return value;
}

function settingsOf(options: ReturnType<typeof parseObject<typeof REQUEST_OPTIONS>>): SpeculationSettings {
  const { mode, maxTokens = DEFAULT_MAX_TOKENS, adaptive = true } = options;
  if (mode === undefined) throw invalidParameter('speculation.mode', REQUEST_OPTIONS.mode.allowed, mode);
  return { mode, maxTokens, isAdaptive: adaptive };
}
