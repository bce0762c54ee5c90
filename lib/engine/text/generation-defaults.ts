import type { CheckpointWarning, JsonObject } from '../../model/checkpoint-types';
import type { SamplingOptions } from '../types';

export interface GenerationDefaults {
  readonly settings: SamplingOptions;
  /** Settings that were passed over. */
  readonly warnings: readonly CheckpointWarning[];
}

interface Setting {
  readonly key: keyof Omit<SamplingOptions, 'logitBias'>;
  readonly accepts: (value: number) => boolean;
}

/** Keys of generation_config.json, with the ranges of SamplingOptions. */
const SETTINGS: Readonly<Record<string, Setting>> = {
  temperature: { key: 'temperature', accepts: (value) => value >= 0 && value <= 100 },
  top_k: { key: 'topK', accepts: (value) => Number.isInteger(value) && value >= 0 },
  top_p: { key: 'topP', accepts: (value) => value > 0 && value <= 1 },
  min_p: { key: 'minP', accepts: (value) => value >= 0 && value <= 1 },
  repetition_penalty: { key: 'repetitionPenalty', accepts: (value) => value > 0 && value <= 10 },
};

/** The sampling settings a model was published with. One that cannot be used is a warning, not an error. */
export function readGenerationDefaults(config: JsonObject | null): GenerationDefaults {
  const settings: Partial<Record<Setting['key'], number>> = {};
  const warnings: CheckpointWarning[] = [];
  for (const [name, { key, accepts }] of Object.entries(SETTINGS)) {
    const value = config?.[name] ?? null;
    if (value === null) continue;
    if (typeof value === 'number' && accepts(value)) settings[key] = value;
    else {
      const message = `generation_config.json: ${name} = ${JSON.stringify(value)} is out of range and not used`;
      warnings.push({ code: 'generation_config', message });
    }
  }
  return { settings, warnings };
}
