import { MessageChannel } from 'node:worker_threads';
import { AutoglmError, reviveError } from '../errors';
import { type ResolvedSource, resolveSource } from '../model/source/resolve-source';
import { checkDraftVocabulary } from './draft-vocabulary';
import type { EngineThread, ModelReport } from './engine-thread';
import type { ParsedLoadOptions } from './load-options';
import { LocalModel } from './local-model';
import { describePlacement } from './placed-layers';
import { progressTeller, type Teller } from './progress-teller';
import { tasksOf } from './requests/pooled-tasks';
import { RequestTable } from './requests/request-table';
import type { DraftModelInfo } from './speculation-types';
import type { LoadedText, TextService } from './text/types';
import type { ChatSupport, Logger, ModelInfo } from './types';
import type { DraftSummary, LoadCommand, LoadSummary } from './worker/protocol';

export interface ModelLoadParts {
  readonly id: string;
  readonly number: number;
  readonly thread: EngineThread;
  readonly text: TextService;
  readonly logger: Logger;
  /** Aborts with the caller's signal and with the engine. */
  readonly signal: AbortSignal;
  readonly onClosed: (model: LocalModel) => void;
}

/**
 * Source name -> files -> spec and tokenizer (text worker) -> weights (engine worker) -> model.
 * Rejects with what the failing stage says, after everything that earlier stages made is gone.
 */
export async function loadLocalModel(options: ParsedLoadOptions, parts: ModelLoadParts): Promise<LocalModel> {
  const { id, number, thread, text, signal } = parts;
  const tell = progressTeller(options.onProgress, parts.logger);
  tell('resolve', { loaded: 0, total: null });
  const resolve = (source: string): Promise<ResolvedSource> =>
    resolveSource(source, {
      offline: options.offline,
      signal,
      logger: parts.logger,
      onProgress: ({ file, loaded, total, bytesPerSecond }) =>
        tell('download', { file, loaded, total, bytesPerSecond }),
    });
  const resolved = await resolve(options.source);
  const draftPath = options.draftModel === null ? null : (await resolve(options.draftModel)).path;
  tell('parse', { loaded: 0, total: null });
  let hasModel = false;
  try {
    const opened = await openCheckpoint({ path: resolved.path, draftPath }, options, parts, tell);
    const { loaded, summary } = opened;
    hasModel = true;
    const requests = new RequestTable(thread, number);
    const { maxConcurrency, maxQueuedRequests } = options.settings;
    const model = new LocalModel({
      id,
      number,
      info: modelInfo(options, resolved, opened),
      thread,
      requests,
      text,
      logger: parts.logger,
      loaded,
      maxPending: 2 * (maxConcurrency + maxQueuedRequests),
      maxConcurrency,
      speculation: options.speculation,
      onClosed: () => parts.onClosed(model),
    });
    listen(thread, number, requests, model);
    tell('ready', { loaded: summary.weightBytes, total: summary.weightBytes });
    for (const { code, message } of model.info.warnings) {
      parts.logger({ level: 'warn', text: `${id}: ${message}`, fields: { id, code } });
    }
    logSummary(parts.logger, id, summary);
    return model;
  } finally {
    text.unloadModel(draftId(id)); // its tokenizer has told all there is to know
    if (!hasModel) {
      thread.forget(number);
      text.unloadModel(id);
    }
  }
}

interface OpenedCheckpoints {
  readonly loaded: LoadedText;
  readonly draft: LoadedText | null;
  readonly summary: LoadSummary;
}

/** What the text workers call the draft model of a model. */
const draftId = (id: string): string => `${id} (draft)`;

/**
 * The text worker hands the decoder to the engine worker and goes on with the tokenizer while the weights are read.
 * Settles when both are done; when one fails or the caller aborts, the other is stopped and what it made is freed.
 */
async function openCheckpoint(
  { path, draftPath }: { readonly path: string; readonly draftPath: string | null },
  options: ParsedLoadOptions,
  parts: ModelLoadParts,
  tell: Teller,
): Promise<OpenedCheckpoints> {
  const { id, number, thread, text } = parts;
  if (parts.signal.aborted) throw loadAborted(parts.signal);
  if (thread.lost !== null) throw thread.lost;
  const { port1, port2 } = new MessageChannel();
  const draftChannel = draftPath === null ? null : new MessageChannel();
  const failure = new AbortController();
  const signal = AbortSignal.any([parts.signal, failure.signal]);
  const { chatTemplate, chatDialect } = options;
  const request = { modelId: id, path, chatTemplate, chatDialect, decoderPort: port1, signal };
  const openDraft = async (): Promise<LoadedText | null> => {
    if (draftPath === null || draftChannel === null) return null;
    const own = { chatTemplate: null, chatDialect: null, decoderPort: draftChannel.port1 };
    return text.loadModel({ modelId: draftId(id), path: draftPath, ...own, signal });
  };
  const opening = Promise.all([text.loadModel(request), openDraft()]).then(([loaded, draft]) => {
    if (draft !== null) checkDraftVocabulary(loaded, draft);
    return { loaded, draft };
  });
  const draft =
    draftPath === null || draftChannel === null ? null : { path: draftPath, port: draftChannel.port2 };
  const sources = { path, port: port2, draft };
  const reading = loadWeights(options, { number, thread, signal }, sources, tell);
  for (const half of [opening, reading]) half.catch((error: unknown) => failure.abort(error));
  const [opened, summary] = await Promise.allSettled([opening, reading]);
  if (opened.status === 'fulfilled' && summary.status === 'fulfilled' && !parts.signal.aborted) {
    return { ...opened.value, summary: summary.value };
  }
  if (summary.status === 'fulfilled') await thread.call({ type: 'closeModel', model: number });
  throw parts.signal.aborted ? loadAborted(parts.signal) : failure.signal.reason;
}

/** The thread must not keep a model alive that its user has dropped, or no engine would ever be collected. */
function listen(thread: EngineThread, number: number, requests: RequestTable, model: LocalModel): void {
  const reference = new WeakRef(model);
  thread.listen(number, {
    report: (report) => requests.report(report),
    lost: (error) => reference.deref()?.lost(error),
  });
}

export function loadAborted(signal: AbortSignal): AutoglmError {
  return new AutoglmError('aborted', 'loading was aborted', { cause: signal.reason });
}

/** Settles when the engine worker has loaded the model or has freed what it had of it. */
async function loadWeights(
  { settings }: ParsedLoadOptions,
  { number, thread, signal }: Pick<ModelLoadParts, 'number' | 'thread' | 'signal'>,
  sources: Pick<LoadCommand, 'path' | 'port' | 'draft'>,
  tell: Teller,
): Promise<LoadSummary> {
  const cancel = new Int32Array(new SharedArrayBuffer(4));
  const onAbort = (): void => {
    Atomics.store(cancel, 0, 1);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  thread.hold();
  try {
    return await new Promise((resolve, reject) => {
      const report = (message: ModelReport): void => {
        if (message.type === 'loaded') resolve(message.summary);
        else if (message.type === 'loadFailed') reject(reviveError(message.error));
        else if (message.type === 'loadProgress') {
          tell('weights', { loaded: message.loaded, total: message.total });
        }
      };
      thread.listen(number, { report, lost: reject });
      const { port, draft } = sources;
      const transfer = draft === null ? [port] : [port, draft.port];
      thread.post({ type: 'load', model: number, ...sources, settings, cancel }, transfer);
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
    thread.release();
  }
}

function modelInfo(
  options: ParsedLoadOptions,
  resolved: ResolvedSource,
  { loaded, draft, summary }: OpenedCheckpoints,
): ModelInfo {
  const { info } = loaded;
  return {
    source: options.source,
    files: info.files,
    resolution: resolved.resolution,
    family: info.family,
    name: info.name,
    format: info.format,
    contextLength: summary.contextLength,
    modelContextLength: info.contextLength,
    vocabSize: summary.vocabSize,
    numParameters: summary.numParameters,
    weightBytes: summary.weightBytes,
    gpuLayers: summary.gpuLayers,
    layerPlacement: summary.layerPlacement,
    isFromCache: summary.isFromCache,
    kvBytes: summary.kvBytes,
    kvBytesPerToken: summary.kvBytesPerToken,
    scratchBytes: summary.scratchBytes,
    precision: options.settings.precision,
    layouts: summary.layouts,
    hasChatTemplate: loaded.hasChatTemplate,
    tasks: tasksOf(loaded),
    embeddingSize: loaded.pooled.kind === 'embedding' ? loaded.pooledSize : null,
    labels: loaded.pooled.kind === 'labels' ? loaded.pooled.labels : [],
    chat: chatSupport(loaded),
    eosTokens: loaded.eosTokens,
    draftModel: draftInfo(options.draftModel, draft, summary.draftModel),
    warnings: [...loaded.warnings, ...summary.warnings],
  };
}

function draftInfo(
  source: string | null,
  draft: LoadedText | null,
  summary: DraftSummary | null,
): DraftModelInfo | null {
  if (source === null || draft === null || summary === null) return null;
  const { files, family, name, format } = draft.info;
  return { source, files, family, name, format, ...summary };
}

function chatSupport({ chat: { dialect, think, toolTemplate } }: LoadedText): ChatSupport {
  return { dialect, takesTools: dialect !== null && toolTemplate !== null, reasons: think !== null };
}

function logSummary(logger: Logger, id: string, summary: LoadSummary): void {
  const { contextLength, numPages, kvBytes, weightBytes, gpuLayers, layerPlacement, draftModel } = summary;
  if (draftModel !== null) {
    const { weightBytes, kvBytes } = draftModel;
    const text = `${id}: its draft model takes ${mebibytes(weightBytes)} of weights, ${mebibytes(kvBytes)} of KV cache`;
    logger({ level: 'info', text, fields: { id, weightBytes, kvBytes } });
  }
  const place = gpuLayers === 0 ? '' : `, ${describePlacement(layerPlacement)}`;
  logger({
    level: 'info',
    text: `${id}: ${mebibytes(weightBytes)} of weights, ${mebibytes(kvBytes)} of KV cache in ${numPages} pages, context ${contextLength}${place}`,
    fields: { id, weightBytes, kvBytes, numPages, contextLength, gpuLayers, layerPlacement },
  });
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
