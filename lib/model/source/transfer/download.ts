import type { IncomingMessage } from 'node:http';
import { AutoglmError } from '../../../errors';
import { throwIfAborted } from '../../byte-source';
import type { FetchContext, SourceFacts } from '../source-types';
import { requireRoom } from './disk-room';
import { exchange, pauseFor } from './http-exchange';
import { connectionError, HTTP_TIMEOUTS, type HttpTimeouts } from './http-request';
import { describeDiskFault } from './local-fault';
import { type FileVersion, PartialFile } from './partial-file';
import { ProgressMeter } from './progress-meter';

export interface RemoteFile {
  readonly url: string;
  /** `Authorization` for the origin of `url`, or null. */
  readonly authorization: string | null;
  /** Name for progress and messages. */
  readonly label: string;
  /** Content hash or the like: bytes of the same identity are the same whatever server sends them. */
  readonly identity: string | null;
  readonly facts: SourceFacts;
}

export interface DownloadedFile {
  readonly size: number;
  readonly sha256: string;
}

/** Pauses after a cut connection, milliseconds; a try that brought new bytes starts the list over. */
const PAUSES_MS: readonly number[] = [500, 1_000, 2_000, 4_000];

/**
 * Fetches a file to `target`, going on from `partialPath` when that holds bytes of the same version. Size and SHA-256 are
 * checked before the rename, so `target` is absent or complete. Must run under a lock. A cut connection, a full disk and
 * an abort keep the partial file; a wrong hash removes it.
 */
export async function downloadFile(
  remote: RemoteFile,
  target: string,
  partialPath: string,
  context: FetchContext,
  timeouts: HttpTimeouts = HTTP_TIMEOUTS,
): Promise<DownloadedFile> {
  try {
    return await new Transfer(remote, context, timeouts).run(target, partialPath);
  } catch (error) {
    throw describeDiskFault(error, partialPath);
  }
}

/** One file on its way: the tries, the partial file and the checks. */
class Transfer {
  readonly #host: string;
  #hasAnswered = false;

  constructor(
    readonly remote: RemoteFile,
    readonly context: FetchContext,
    readonly timeouts: HttpTimeouts,
  ) {
    this.#host = new URL(remote.url).host;
  }

  async run(target: string, partialPath: string): Promise<DownloadedFile> {
    for (let mayRestart = true; ; mayRestart = false) {
      const partial = await PartialFile.open(partialPath, this.context.signal);
      const resumedFrom = this.#isResumable(partial) ? partial.size : 0;
      try {
        await this.#receive(partial, resumedFrom);
        this.#check(partial);
      } catch (error) {
        if (!(error instanceof WrongContent)) {
          await partial.close();
          throw error;
        }
        await partial.discard();
        // Bytes of an earlier run may have been lost in a crash of the machine; those of this one cannot.
        if (resumedFrom === 0 || !mayRestart) throw error.fault;
        this.context.log({ level: 'warn', text: `${error.fault.message}; starting over` });
        continue;
      }
      const result = { size: partial.size, sha256: partial.sha256() };
      await partial.finish(target);
      return result;
    }
  }

  /** True when the bytes that are here may be the first ones of what the server has now. */
  #isResumable(partial: PartialFile): boolean {
    const { version } = partial;
    if (version === null || partial.size === 0) return false;
    const total = this.remote.facts.size;
    if (total !== null && partial.size > total) return false;
    if (this.remote.identity !== null) return version.identity === this.remote.identity;
    return rangeCondition(version) !== null;
  }

  /** Tries until everything has arrived, or until a few tries in a row brought nothing. */
  async #receive(partial: PartialFile, startBytes: number): Promise<void> {
    const meter = new ProgressMeter(this.remote.label, startBytes, this.context.onProgress);
    let offset = startBytes;
    for (let numVain = 0; ; numVain += 1) {
      const before = offset;
      try {
        if (offset > 0 && offset === this.remote.facts.size) return;
        return await this.#receiveOnce(partial, offset, meter);
      } catch (error) {
        throwIfAborted(this.context.signal);
        if (!this.#isCut(error)) throw error;
        offset = this.#isResumable(partial) ? partial.size : 0;
        if (offset > before) numVain = 0;
        const pause = PAUSES_MS[numVain];
        if (pause === undefined) throw this.#incomplete(partial, error);
        this.context.log({ level: 'info', text: `${(error as Error).message}; trying again` });
        if (!(error instanceof ChangedError) || numVain > 0) await pauseFor(pause, this.context.signal);
      }
    }
  }

  /** True when another try is worth it: a version that changed, or a connection that broke after the first answer. */
  #isCut(error: unknown): boolean {
    if (error instanceof ChangedError) return true;
    return this.#hasAnswered && AutoglmError.is(error) && error.details.phase !== undefined;
  }

  async #receiveOnce(partial: PartialFile, offset: number, meter: ProgressMeter): Promise<void> {
    const response = await this.#request(partial, offset);
    this.#hasAnswered = true;
    try {
      requireUnencoded(response, this.#host);
      const version = this.#versionOf(response);
      const start = startOf(response, offset);
      if (start === null || (offset > 0 && start > 0 && !isSameVersion(partial.version, version))) {
        await partial.restart(version);
        throw new ChangedError(`${this.#host}: ${this.remote.label} has changed`);
      }
      if (start === 0) await partial.restart(version);
      const total = this.#totalSize(response, start);
      if (total !== null) {
        this.#requireSize(total);
        await requireRoom(partial.path, total - start);
      }
      await this.#append(partial, response, total, meter);
    } finally {
      response.destroy();
    }
  }

  #request(partial: PartialFile, offset: number): Promise<IncomingMessage> {
    const { url, authorization, label, identity } = this.remote;
    const headers: Record<string, string> = {};
    if (offset > 0 && partial.version !== null) {
      headers.range = `bytes=${offset}-`;
      // Servers that share one content disagree about its ETag, so an identity needs no condition.
      const condition = identity === null ? rangeCondition(partial.version) : null;
      if (condition !== null) headers['if-range'] = condition;
    }
    const { signal } = this.context;
    const request = { url, method: 'GET', headers, authorization, redirects: 'follow' } as const;
    const isAccepted = (status: number): boolean =>
      status === 200 || (offset > 0 && [206, 416].includes(status));
    return exchange({ ...request, timeouts: this.timeouts, signal }, label, this.context, isAccepted);
  }

  async #append(
    partial: PartialFile,
    response: IncomingMessage,
    total: number | null,
    meter: ProgressMeter,
  ): Promise<void> {
    meter.update(partial.size, total);
    const chunks = (response as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    for (;;) {
      throwIfAborted(this.context.signal);
      const next = await chunks.next().catch((error: NodeJS.ErrnoException) => {
        throwIfAborted(this.context.signal);
        throw connectionError(this.#host, 'body', error);
      });
      if (next.done === true) break;
      if (total !== null && partial.size + next.value.length > total) {
        throw this.#wrong(`more than ${total} bytes`, `${total} bytes`);
      }
      await partial.append(next.value);
      meter.update(partial.size, total);
    }
    meter.update(partial.size, partial.size);
    if (total === null || partial.size === total) return;
    const cut = Object.assign(new Error(`${partial.size} of ${total} bytes`), { code: 'ECONNRESET' });
    throw connectionError(this.#host, 'body', cut);
  }

  #versionOf(response: IncomingMessage): FileVersion {
    const { etag = null, 'last-modified': lastModified = null } = response.headers;
    return { identity: this.remote.identity, etag, lastModified };
  }

  #totalSize(response: IncomingMessage, start: number): number | null {
    const length = response.headers['content-length'];
    return length === undefined ? this.remote.facts.size : start + Number(length);
  }

  #requireSize(found: number): void {
    const expected = this.remote.facts.size;
    if (expected !== null && found !== expected) throw this.#wrong(`${found} bytes`, `${expected} bytes`);
  }

  #check(partial: PartialFile): void {
    const { sha256 } = this.remote.facts;
    const found = sha256 === null ? null : partial.sha256();
    if (found !== sha256) throw this.#wrong(`sha256 ${found}`, `sha256 ${sha256}`);
  }

  #wrong(found: string, expected: string): WrongContent {
    const { label } = this.remote;
    return new WrongContent(
      new AutoglmError('download_failed', `${this.#host}: ${label}: expected ${expected}, got ${found}`, {
        hint: 'The server or a proxy in between sends another file; nothing was kept.',
        details: { host: this.#host, file: label, expected, found },
        retryable: false,
      }),
    );
  }

  #incomplete(partial: PartialFile, cause: unknown): AutoglmError {
    const { label } = this.remote;
    return new AutoglmError(
      'download_incomplete',
      `${(cause as Error).message}: ${label} stopped at ${partial.size} bytes`,
      {
        hint: 'Try again: the download goes on from there.',
        details: { host: this.#host, file: label, loaded: partial.size },
        cause,
      },
    );
  }
}

/** The server has another version than the partial file: the next try starts over. */
class ChangedError extends Error {}

/** The bytes are not those that were asked for, and must not be kept. */
class WrongContent extends Error {
  constructor(readonly fault: AutoglmError) {
    super(fault.message);
  }
}

/** A server that compresses although it was asked not to sends other bytes than those whose size and hash are known. */
function requireUnencoded(response: IncomingMessage, host: string): void {
  const encoding = response.headers['content-encoding'] ?? 'identity';
  if (encoding === 'identity') return;
  throw new AutoglmError(
    'download_failed',
    `${host}: sends the file with encoding ${encoding}, asked for none`,
  );
}

/** Offset of the first byte in the answer; null when it is no answer to what was asked. */
function startOf(response: IncomingMessage, offset: number): number | null {
  if (response.statusCode === 200) return 0;
  if (response.statusCode === 416) return null;
  const range = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(response.headers['content-range'] ?? '');
  return Number(range?.[1]) === offset ? offset : null;
}

function isSameVersion(kept: FileVersion | null, offered: FileVersion): boolean {
  if (kept === null) return false;
  if (kept.identity !== null) return kept.identity === offered.identity;
  if (kept.etag !== null && offered.etag !== null) return kept.etag === offered.etag;
  return kept.lastModified === offered.lastModified;
}

/** Value for If-Range: a strong ETag, else the date; null when neither exists. */
function rangeCondition(version: FileVersion): string | null {
  if (version.etag !== null && !version.etag.startsWith('W/')) return version.etag;
  return version.lastModified;
}
