import type { z } from 'zod';
import type { GenerateOptions } from '../../engine/types';
import { refuse } from '../http-errors';
import type { samplingFields } from './fields';

type SamplingRequest = z.output<z.ZodObject<ReturnType<typeof samplingFields>>>;

export function checkStreamOptions(request: Pick<SamplingRequest, 'stream' | 'stream_options'>): void {
  if (request.stream_options !== undefined && request.stream !== true)
    throw refuse('malformed_request', 'stream_options needs stream: true', {
      param: 'stream_options',
      where: 'body',
    });
}

/** Wire name -> engine name, for the fields that pass through unchanged. */
const SAME_VALUE = {
  temperature: 'temperature',
  top_p: 'topP',
  top_k: 'topK',
  min_p: 'minP',
  repetition_penalty: 'repetitionPenalty',
  presence_penalty: 'presencePenalty',
  frequency_penalty: 'frequencyPenalty',
  logit_bias: 'logitBias',
  seed: 'seed',
  stop: 'stop',
  ignore_eos: 'ignoreEos',
  cache_salt: 'cacheSalt',
} as const satisfies Partial<Record<keyof SamplingRequest, keyof GenerateOptions>>;

/** The settings both endpoints share, as the engine names them; what was not given stays out. */
export function toSampling(request: SamplingRequest): GenerateOptions {
  const entries = Object.entries(SAME_VALUE)
    .map(([wire, engine]) => [engine, request[wire as keyof typeof SAME_VALUE]] as const)
    .filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as GenerateOptions;
}

/** Answer i of a request draws from seed + i, wrapping at the largest seed. */
export function seedOfChoice(seed: number | undefined, index: number): { readonly seed?: number } {
  if (seed === undefined) return {};
  const room = Number.MAX_SAFE_INTEGER - seed;
  return { seed: index <= room ? seed + index : index - room - 1 };
}
