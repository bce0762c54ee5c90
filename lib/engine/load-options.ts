import { join } from 'node:path';
import { DIALECT_NAMES, type DialectName } from '../chat/dialects/dialect';
import { AutoglmError } from '../errors';
import { cacheFolder } from '../model/source/cache-folders';
import type { KvDtype } from '../native/abi';
import type { Device } from './device-types';
import type { LoadProgress, WeightCacheOptions } from './load-types';
import {
  abortSignal,
  anything,
  boolean,
  type Check,
  callback,
  integer,
  invalidParameter,
  oneOf,
  parseObject,
  plainObject,
  text,
} from './parameters';
import { type LoadSpeculationSettings, parseLoadSpeculation } from './speculation-options';
import type { BinaryInfo, EngineOptions, LoadModelOptions, Logger } from './types';
import type { DeviceSettings, LoadSettings, WeightCacheSettings } from './worker/protocol';

export interface EngineSettings {
  readonly device: DeviceSettings;
  readonly threads: number | null;
  readonly logger: Logger;
}

const MAX_GPU_INDEX = 1023;

const device: Check<Device> = {
  allowed: `"auto", "cpu", "cuda", "cuda:N" with N from 0 to ${MAX_GPU_INDEX}, or several such as "cuda:0,1", none twice`,
  accepts: (value): value is Device => {
    if (typeof value !== 'string' || !/^(auto|cpu|cuda(:(0|[1-9]\d*)(,(0|[1-9]\d*))*)?)$/.test(value))
      return false;
    const indices = gpuIndicesOf(value);
    return indices.every((index) => index <= MAX_GPU_INDEX) && new Set(indices).size === indices.length;
  },
};

const gpuIndicesOf = (name: string): readonly number[] => (name.split(':')[1]?.split(',') ?? []).map(Number);

function parseDevice(name: Device): DeviceSettings {
  if (name === 'auto' || name === 'cpu') return { variant: 'cpu', gpuIndices: null };
  return { variant: 'cuda', gpuIndices: name === 'cuda' ? null : gpuIndicesOf(name) };
}

const ENGINE_OPTIONS = {
  device,
  threads: integer(1, 256),
  logger: callback,
};

const silent: Logger = () => {};

/** A logger that throws has nobody left to tell; what it was told about goes on. */
function sparing(logger: Logger): Logger {
  return (record) => {
    try {
      logger(record);
    } catch {
      // see above
    }
  };
}

export function parseEngineOptions(options: EngineOptions): EngineSettings {
  const {
    device = 'auto',
    threads = null,
    logger = silent,
  } = parseObject('options', options, ENGINE_OPTIONS);
  return { device: parseDevice(device), threads, logger: sparing(logger as Logger) };
}

export interface ParsedLoadOptions extends LoadSpeculationSettings {
  readonly source: string;
  readonly offline: boolean;
  readonly chatTemplate: string | null;
  readonly chatDialect: DialectName | 'none' | null;
  readonly onProgress: (progress: LoadProgress) => void;
  readonly signal: AbortSignal | null;
  readonly settings: LoadSettings;
}

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

function bytesOf(value: unknown): number {
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?) ?([KMGT]?i?B)$/.exec(value) : null;
  const bytes = match === null ? value : Math.floor(Number(match[1]) * (UNITS[match[2] ?? ''] ?? Number.NaN));
  return Number.isSafeInteger(bytes) && (bytes as number) >= 1 ? (bytes as number) : Number.NaN;
}

const memorySize: Check<number | string> = {
  allowed: 'a number of bytes, or text such as "512MiB" or "8GiB"',
  accepts: (value): value is number | string => !Number.isNaN(bytesOf(value)),
};

const WEIGHT_CACHE_OPTIONS = {
  maxBytes: memorySize,
  share: boolean,
  write: oneOf<WeightCacheSettings['write']>('auto', 'always', 'never'),
};

const weightCache: Check<boolean | WeightCacheOptions> = {
  allowed: 'true, false or an object',
  accepts: (value): value is boolean | WeightCacheOptions =>
    typeof value === 'boolean' || plainObject.accepts(value),
};

/** Several models of the size that people run on a processor. */
const DEFAULT_WEIGHT_CACHE_BYTES = 32 * 2 ** 30;

function parseWeightCache(value: boolean | WeightCacheOptions): WeightCacheSettings | null {
  if (value === false) return null;
  const { maxBytes, share, write } = parseObject(
    'weightCache',
    value === true ? {} : value,
    WEIGHT_CACHE_OPTIONS,
  );
  return {
    maxBytes: maxBytes === undefined ? DEFAULT_WEIGHT_CACHE_BYTES : bytesOf(maxBytes),
    isShared: share ?? false,
    write: write ?? 'auto',
  };
}

/** OPEN_AUTOGLM_WEIGHT_CACHE speaks where the caller does not: in a container, say, whose disk is gone with it. */
function weightCacheOfEnvironment(): boolean {
  const value = process.env.OPEN_AUTOGLM_WEIGHT_CACHE || 'on';
  if (/^(1|on|yes|true)$/i.test(value)) return true;
  if (/^(0|off|no|false)$/i.test(value)) return false;
  throw new AutoglmError(
    'invalid_parameter',
    `expected OPEN_AUTOGLM_WEIGHT_CACHE to be 1, on, yes, true, 0, off, no or false, got ${JSON.stringify(value)}`,
  );
}

const gpuLayers: Check<number | 'auto'> = {
  allowed: '"auto" or an integer of at least 1 (device "cpu" is for none)',
  accepts: (value): value is number | 'auto' =>
    value === 'auto' || (Number.isSafeInteger(value) && (value as number) >= 1),
};

const LOAD_OPTIONS = {
  source: text(1, 4096),
  contextLength: integer(1, 2 ** 24),
  kvCache: plainObject,
  gpuLayers,
  precision: oneOf('fast', 'exact'),
  maxConcurrency: integer(1, 1024),
  maxQueuedRequests: integer(0, 2 ** 20),
  maxStepTokens: integer(16, 8192),
  maxChunkTokens: integer(1, 8192),
  offline: boolean,
  weightCache,
  chatTemplate: text(1, 2 ** 20),
  speculation: anything,
  autotune: boolean,
  chatDialect: oneOf<DialectName | 'none'>(...DIALECT_NAMES, 'none'),
  onProgress: callback,
  signal: abortSignal,
};

const KV_OPTIONS = {
  dtype: oneOf<KvDtype>('bf16', 'f32', 'int8', 'fp8'),
  memory: memorySize,
  prefixCache: boolean,
};

const autotunesByEnvironment = (): boolean =>
  !/^(0|off|no|false)$/i.test(process.env.OPEN_AUTOGLM_AUTOTUNE ?? '');

export function parseLoadOptions(source: string | LoadModelOptions): ParsedLoadOptions {
  const options = parseObject('options', typeof source === 'string' ? { source } : source, LOAD_OPTIONS);
  if (options.source === undefined) throw invalidParameter('source', LOAD_OPTIONS.source.allowed, undefined);
  const kv = parseObject('kvCache', options.kvCache ?? {}, KV_OPTIONS);
  const { precision = 'fast', maxConcurrency = 64, maxStepTokens = 512 } = options;
  return {
    source: options.source,
    offline: options.offline ?? false,
    chatTemplate: options.chatTemplate ?? null,
    chatDialect: options.chatDialect ?? null,
    ...parseLoadSpeculation(options.speculation ?? 'off'),
    onProgress: (options.onProgress ?? (() => {})) as (progress: LoadProgress) => void,
    signal: options.signal ?? null,
    settings: {
      contextLength: options.contextLength ?? null,
      kvDtype: kv.dtype ?? (precision === 'exact' ? 'f32' : 'bf16'),
      kvMemory: kv.memory === undefined ? null : bytesOf(kv.memory),
      prefixCache: kv.prefixCache ?? true,
      precision,
      maxConcurrency,
      maxQueuedRequests: options.maxQueuedRequests ?? 4 * maxConcurrency,
      maxStepTokens,
      gpuLayers: options.gpuLayers === undefined || options.gpuLayers === 'auto' ? null : options.gpuLayers,
      weightCache: parseWeightCache(options.weightCache ?? weightCacheOfEnvironment()),
      maxChunkTokens: options.maxChunkTokens ?? Math.max(16, Math.floor(maxStepTokens / 2)),
      tuningFolder: (options.autotune ?? autotunesByEnvironment()) ? join(cacheFolder(), 'tuning') : null,
    },
  };
}

/** Throws `invalid_parameter` for what only a GPU has kernels for, where none computes. */
export function checkKvDtype(
  { kvDtype }: Pick<LoadSettings, 'kvDtype'>,
  { gpu }: Pick<BinaryInfo, 'gpu'>,
): void {
  if (kvDtype !== 'fp8' || gpu !== null) return;
  throw invalidParameter('kvCache.dtype', "'bf16', 'int8' or 'f32' on the processor", kvDtype);
}
