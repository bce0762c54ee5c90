import { AutoglmError } from '../../errors';
import { Limits } from '../../native/abi';

export interface KvSizingInput {
  /** Tokens the model was made for. */
  readonly modelContextLength: number;
  /** The caller's wish; null for the model's own, as far as the memory goes. */
  readonly contextLength: number | null;
  /** The caller's KV memory in bytes; null for the default. */
  readonly kvMemory: number | null;
  readonly kvBytesPerToken: number;
  /** Bytes that will be free once the weights are in memory. */
  readonly freeBytes: number;
}

export interface KvSizing {
  readonly contextLength: number;
  readonly numPages: number;
}

/** Sequences of the whole context for which the default makes room. */
const DEFAULT_SEQUENCES = 4;

/**
 * Decides the context and the number of KV pages, once, at load. What the caller asked for is met or refused; only
 * defaults give way to the memory.
 */
export function sizeKvCache(input: KvSizingInput): KvSizing {
  const { modelContextLength, contextLength, kvMemory, freeBytes } = input;
  checkContextLength(input);
  const pageBytes = input.kvBytesPerToken * Limits.pageSize;
  if (kvMemory !== null && kvMemory > freeBytes) {
    throw new AutoglmError(
      'out_of_memory',
      `kvCache.memory asks for ${mebibytes(kvMemory)}, but ${mebibytes(freeBytes)} are free beside the weights`,
      { hint: 'Lower kvCache.memory or free memory.', details: { needed: kvMemory, free: freeBytes } },
    );
  }
  const maxPages = Math.floor((kvMemory ?? freeBytes / 2) / pageBytes);
  const wanted = Math.ceil((contextLength ?? 1) / Limits.pageSize);
  if (wanted > maxPages) throw tooSmall(input, wanted * pageBytes);
  const context = contextLength ?? Math.min(modelContextLength, maxPages * Limits.pageSize);
  const perSequence = Math.ceil(context / Limits.pageSize);
  const numPages = kvMemory === null ? Math.min(DEFAULT_SEQUENCES * perSequence, maxPages) : maxPages;
  return { contextLength: context, numPages };
}

/** Throws `invalid_parameter` for a context beyond the model's. */
export function checkContextLength({
  modelContextLength,
  contextLength,
}: Pick<KvSizingInput, 'modelContextLength' | 'contextLength'>): void {
  if (contextLength === null || contextLength <= modelContextLength) return;
  throw new AutoglmError(
    'invalid_parameter',
    `expected contextLength to be at most ${modelContextLength}, which the model was made for, got ${contextLength}`,
    { details: { path: 'contextLength', found: contextLength, allowed: `1..${modelContextLength}` } },
  );
}

function tooSmall({ contextLength, kvMemory, freeBytes }: KvSizingInput, needed: number): AutoglmError {
  const tokens = contextLength ?? Limits.pageSize;
  if (kvMemory !== null) {
    return new AutoglmError(
      'invalid_parameter',
      `expected kvCache.memory to hold one sequence of ${tokens} tokens, ${needed} bytes, got ${kvMemory} bytes`,
      {
        hint: 'Raise kvCache.memory or lower contextLength.',
        details: { path: 'kvCache.memory', found: kvMemory, allowed: `at least ${needed}` },
      },
    );
  }
  return new AutoglmError(
    'out_of_memory',
    `a sequence of ${tokens} tokens needs ${mebibytes(needed)} of KV cache; half of the free memory is ${mebibytes(freeBytes / 2)}`,
    {
      hint: 'Lower contextLength, set kvCache.memory to take more than half, or free memory.',
      details: { needed, free: freeBytes },
    },
  );
}

/** For messages. */
export const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
