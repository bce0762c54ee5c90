import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AutoglmError, type Engine, type LoadModelOptions, type Model } from '../../dist/index.js';

/** One position's logits, as test/fixtures/make_smollm2_reference.py kept them. */
export interface ReferencePosition {
  readonly maxAbs: number;
  /** The highest logits, best first. */
  readonly topIds: readonly number[];
  readonly topLogits: readonly number[];
  /** Logits of the reference's `sampledIds`. */
  readonly sampled: readonly number[];
}

export interface Smollm2Reference {
  readonly sha256: string;
  readonly sampledIds: readonly number[];
  readonly prompts: readonly {
    readonly kind: 'text' | 'chat';
    /** The user's message of a chat prompt; `text` is what the template made of it. */
    readonly message?: string;
    readonly text: string;
    readonly tokens: readonly number[];
    readonly newTokens: readonly number[];
    /** The last position of the prompt and the 63 after it. */
    readonly positions: readonly ReferencePosition[];
  }[];
  readonly licence: { readonly tokens: readonly number[]; readonly logprobs: readonly number[] };
}

export function smollm2Reference(): Smollm2Reference {
  const path = join(__dirname, '..', 'fixtures', 'smollm2-reference.json');
  return JSON.parse(readFileSync(path, 'utf8')) as Smollm2Reference;
}

/** What tests load: the short name, or a file that SMOLLM2_GGUF names. */
export const SMOLLM2_SOURCE = process.env.SMOLLM2_GGUF ?? 'smollm2-135m-instruct';
const UNREACHABLE: readonly string[] = ['model_not_found', 'download_failed', 'offline'];

/** The model, or why it cannot be had here. In CI, where it must be had, that is an error. */
export async function loadSmollm2(
  engine: Engine,
  options: Omit<LoadModelOptions, 'source'>,
): Promise<Model | string> {
  try {
    return await engine.loadModel({ ...options, source: SMOLLM2_SOURCE });
  } catch (error) {
    const isUnreachable = AutoglmError.is(error) && UNREACHABLE.includes(error.code);
    if (process.env.CI !== undefined || !isUnreachable) throw error;
    return error.message;
  }
}
