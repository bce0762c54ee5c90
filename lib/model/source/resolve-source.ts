import { AutoglmError } from '../../errors';
import { throwIfAborted } from '../byte-source';
import { cacheFolder, hubCacheFolder, isOfflineByEnvironment } from './cache-folders';
import { listCached } from './cached-models';
import { type CatalogSource, catalogEntries, findCatalogEntry } from './catalog';
import { fetchModel, findCachedModel } from './hubs/remote-model';
import { findLocalModel } from './local-path';
import { SingleFlight } from './single-flight';
import { parseSourceName } from './source-name';
import {
  type DownloadProgress,
  type FetchContext,
  type FoundModel,
  NO_FACTS,
  type SourceLogRecord,
} from './source-types';
import { describeDiskFault, isLocalFault } from './transfer/local-fault';

export interface ResolveSourceOptions {
  /** Forbids the network; HF_HUB_OFFLINE=1 does so too. */
  readonly offline?: boolean;
  /** Called about ten times a second and file while bytes arrive. What it throws is logged and ignored. */
  readonly onProgress?: (progress: DownloadProgress) => void;
  readonly signal?: AbortSignal;
  /** Branch, tag or commit of a hub source that names none. */
  readonly revision?: string;
  readonly logger?: (record: SourceLogRecord) => void;
}

/** One source that was looked at, with what came of it in words. */
export interface SourceVerdict {
  readonly source: string;
  readonly verdict: string;
}

export interface ResolvedSource {
  /** GGUF file, or directory of a checkpoint. */
  readonly path: string;
  /** The source that answered. */
  readonly source: string;
  /** Every source looked at, the one that answered last. */
  readonly resolution: readonly SourceVerdict[];
  /** True when nothing was fetched. */
  readonly isCached: boolean;
  /** Commit of the hub, where there is one. */
  readonly revision: string | null;
}

/**
 * Turns a source string into files on this machine. What is cached is used without the network; otherwise the sources
 * of a short name are tried in order. Throws `model_not_found`, `download_failed`, `download_incomplete`, `unauthorized`,
 * `rate_limited`, `offline`, `invalid_parameter` or `aborted`; when several sources failed, the error names each reason.
 */
export async function resolveSource(
  source: string,
  options: ResolveSourceOptions = {},
): Promise<ResolvedSource> {
  throwIfAborted(options.signal);
  const name = parseSourceName(source, options.revision);
  if (name.kind === 'path') return findLocal(name.path);
  const candidates = name.kind === 'short' ? await catalogSources(name.name) : [{ name, facts: NO_FACTS }];
  if (candidates === null) return findLocal(source);
  const cached = await findCached(candidates);
  if (cached !== null) return cached;
  if (options.offline === true || isOfflineByEnvironment()) throw await offlineError(source, candidates);
  return fetchFirst(source, candidates, createContext(options));
}

async function findLocal(path: string): Promise<ResolvedSource> {
  const found = await findLocalModel(path);
  const resolution = [{ source: found, verdict: 'found' }];
  return { path: found, source: found, resolution, isCached: true, revision: null };
}

/** Null when there is no such entry but a file of that name. */
async function catalogSources(name: string): Promise<readonly CatalogSource[] | null> {
  const entry = findCatalogEntry(name);
  if (entry !== null) return entry.sources;
  const exists = await findLocalModel(name).then(
    () => true,
    () => false,
  );
  if (exists) return null;
  const names = catalogEntries().map((known) => known.name);
  throw new AutoglmError('model_not_found', `${JSON.stringify(name)} is no short name and no file`, {
    hint: `Short names: ${names.join(', ')}. Repositories are written hf:org/name.`,
    details: { found: name, allowed: names },
  });
}

async function findCached(candidates: readonly CatalogSource[]): Promise<ResolvedSource | null> {
  const resolution: SourceVerdict[] = [];
  for (const { name, facts } of candidates) {
    const found = await findCachedModel(name, facts);
    if (found !== null) {
      resolution.push({ source: name.text, verdict: 'in the cache' });
      return { ...found, source: name.text, resolution, isCached: true };
    }
    resolution.push({ source: name.text, verdict: 'not in the cache' });
  }
  return null;
}

const flights = new SingleFlight<FoundModel>();

async function fetchFirst(
  source: string,
  candidates: readonly CatalogSource[],
  context: FetchContext,
): Promise<ResolvedSource> {
  const resolution: SourceVerdict[] = [];
  const errors: AutoglmError[] = [];
  for (const { name, facts } of candidates) {
    const { signal, onProgress } = context;
    const key = `${cacheFolder()}\0${hubCacheFolder()}\0${name.text}`;
    try {
      const found = await flights.run(key, signal, onProgress, (flightSignal, flightProgress) =>
        fetchModel(name, facts, { ...context, signal: flightSignal, onProgress: flightProgress }),
      );
      resolution.push({ source: name.text, verdict: 'fetched' });
      return { ...found, source: name.text, resolution, isCached: false };
    } catch (fault) {
      throwIfAborted(signal);
      const error = describeDiskFault(fault, cacheFolder());
      if (!AutoglmError.is(error) || isLocalFault(error)) throw error;
      errors.push(error);
      resolution.push({ source: name.text, verdict: error.message });
      context.log({ level: 'warn', text: `${name.text}: ${error.message}`, fields: { code: error.code } });
    }
  }
  throw noSourceAnswered(source, resolution, errors);
}

/** One source: its own error. Several: one error with every verdict, and their code when they agree on one. */
function noSourceAnswered(
  source: string,
  resolution: readonly SourceVerdict[],
  errors: readonly AutoglmError[],
): AutoglmError {
  const [first] = errors;
  if (first !== undefined && errors.length === 1) return first;
  const code = first !== undefined && errors.every((error) => error.code === first.code) ? first.code : null;
  const lines = resolution.map((line) => `  ${line.source}: ${line.verdict}`);
  return new AutoglmError(
    code ?? 'download_failed',
    `${source}: none of ${resolution.length} sources answered\n${lines.join('\n')}`,
    {
      hint: 'Check the network and its proxy settings, or give the path of a model file.',
      details: { source, resolution },
      retryable: errors.some((error) => error.retryable),
      cause: new AggregateError(errors),
    },
  );
}

async function offlineError(source: string, candidates: readonly CatalogSource[]): Promise<AutoglmError> {
  const cached = (await listCached()).map((model) => model.names[0] ?? model.source);
  const looked = candidates.map(({ name }) => name.text);
  return new AutoglmError('offline', `${source} is not in the cache, and the network is forbidden`, {
    hint:
      cached.length === 0
        ? 'Nothing is cached. Fetch the model once with the network allowed: open-autoglm pull MODEL.'
        : `Cached: ${cached.join(', ')}.`,
    details: { source, looked, cached },
  });
}

/** A caller's callbacks must not be able to end a download that others share. */
function createContext(options: ResolveSourceOptions): FetchContext {
  const { signal, onProgress, logger } = options;
  const log = (record: SourceLogRecord): void => {
    try {
      logger?.(record);
    } catch {
      // There is nowhere left to report a logger that throws.
    }
  };
  return {
    signal,
    log,
    onProgress: (progress) => {
      try {
        onProgress?.(progress);
      } catch (error) {
        log({ level: 'warn', text: `onProgress threw: ${String(error)}` });
      }
    },
  };
}
