import { mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AutoglmError } from '../../../errors';
import { hubHomeFolder } from '../cache-folders';
import { checkpointFiles, noWeightsError, otherParts } from '../repo-files';
import { type HubName, isPlainPath } from '../source-name';
import { type FetchContext, type FoundModel, NO_FACTS, type SourceFacts } from '../source-types';
import { downloadFile } from '../transfer/download';
import { withFileLock } from '../transfer/file-lock';
import { exchange } from '../transfer/http-exchange';
import { HTTP_TIMEOUTS, readText } from '../transfer/http-request';
import {
  blobLockPath,
  blobPath,
  DEFAULT_REVISION,
  linkIntoSnapshot,
  repositoryFolder,
  writeRef,
} from './hugging-face-cache';

/** A listing of ten thousand files has about a megabyte. */
const MAX_LISTING_BYTES = 16 << 20;

/** Fetches a file, or the files of a checkpoint, into Hugging Face's cache. */
export async function fetchFromHuggingFace(
  name: HubName,
  facts: SourceFacts,
  context: FetchContext,
): Promise<FoundModel> {
  const hub = await Hub.open(context);
  const revision = name.revision ?? DEFAULT_REVISION;
  if (name.file !== null) {
    const { commit, path } = await hub.fetchFile(name.repository, revision, name.file, facts);
    for (const part of otherParts(name.file)) await hub.fetchFile(name.repository, commit, part, NO_FACTS);
    await writeRef(name.repository, revision, commit);
    return { path, revision: commit };
  }
  const { commit, names } = await hub.list(name.repository, revision);
  const files = checkpointFiles(names);
  if (files === null) throw noWeightsError(name.repository, 'hf', names);
  for (const file of files) await hub.fetchFile(name.repository, commit, file, NO_FACTS);
  await writeRef(name.repository, revision, commit);
  return { path: join(repositoryFolder(name.repository), 'snapshots', commit), revision: commit };
}

interface RemoteMetadata {
  readonly commit: string;
  readonly etag: string;
  readonly size: number | null;
}

/** The hub's HTTP interface, for one fetch. Source: huggingface_hub, file_download.py and hf_api.py. */
class Hub {
  private constructor(
    readonly endpoint: string,
    readonly authorization: string | null,
    readonly context: FetchContext,
  ) {}

  static async open(context: FetchContext): Promise<Hub> {
    const endpoint = (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
    if (!/^https?:\/\/[^/?#]/.test(endpoint) || !URL.canParse(endpoint)) {
      throw new AutoglmError('invalid_parameter', 'HF_ENDPOINT: expected an http or https address');
    }
    const token = await readToken();
    return new Hub(endpoint, token === null ? null : `Bearer ${token}`, context);
  }

  /** Commit of a revision, and the names of its files. */
  async list(repository: string, revision: string): Promise<{ commit: string; names: string[] }> {
    const url = `${this.endpoint}/api/models/${repository}/revision/${encodeURIComponent(revision)}`;
    const label = `${repository} at ${revision}`;
    const response = await exchange(this.#request(url, 'GET', 'follow'), label, this.context);
    const text = await readText(response, new URL(url).host, MAX_LISTING_BYTES);
    const { sha, siblings } = parseListing(text, url);
    const names = siblings.map((file) => file?.rfilename).filter((file) => typeof file === 'string');
    // A name that leaves its folder belongs to no checkpoint; such a file is not asked for.
    return { commit: sha, names: names.filter(isPlainPath) };
  }

  /** Fetches one file unless its blob is there, and links it into the snapshot of its commit. */
  async fetchFile(
    repository: string,
    revision: string,
    file: string,
    facts: SourceFacts,
  ): Promise<{ commit: string; path: string }> {
    const metadata = await this.#head(repository, revision, file);
    const { commit, etag } = metadata;
    const hash = /^[0-9a-f]{64}$/.test(etag) ? etag : null;
    if (facts.sha256 !== null && hash !== null && hash !== facts.sha256) {
      throw new AutoglmError(
        'download_failed',
        `${file}: expected sha256 ${facts.sha256}, the hub has ${hash}`,
        {
          hint: 'The repository has changed since; name the file by its hf: source to use the new one.',
          details: { file, expected: facts.sha256, found: hash },
          retryable: false,
        },
      );
    }
    const blob = blobPath(repository, etag);
    await mkdir(dirname(blob), { recursive: true });
    const waiting = (): void =>
      this.context.log({ level: 'info', text: `${file}: another process is fetching it` });
    await withFileLock(blobLockPath(repository, etag), this.context.signal, waiting, async () => {
      const size = facts.size ?? metadata.size;
      const present = await stat(blob).catch(() => null);
      if (present !== null && (size === null || present.size === size)) return;
      const remote = {
        url: this.#resolveUrl(repository, commit, file),
        authorization: this.authorization,
        label: file,
        identity: etag,
        facts: { sha256: facts.sha256 ?? hash, size },
      };
      await downloadFile(remote, blob, `${blob}.open-autoglm.incomplete`, this.context);
    });
    return { commit, path: await linkIntoSnapshot(repository, commit, file, etag) };
  }

  /** A large file's answer is a redirect to another host, and its own headers describe the file. */
  async #head(repository: string, revision: string, file: string): Promise<RemoteMetadata> {
    const url = this.#resolveUrl(repository, revision, file);
    const label = `${file} in ${repository} at ${revision}`;
    const isAccepted = (status: number): boolean => status >= 200 && status < 400;
    const response = await exchange(
      this.#request(url, 'HEAD', 'same-origin'),
      label,
      this.context,
      isAccepted,
    );
    response.resume();
    const { headers } = response;
    const commit = String(headers['x-repo-commit'] ?? '');
    const etag = String(headers['x-linked-etag'] ?? headers.etag ?? '').replace(/^W\/|"/g, '');
    // Both become names in the cache.
    if (!/^[0-9a-f]{40}$/.test(commit) || !/^[\w-]{1,128}$/.test(etag)) {
      const { host } = new URL(url);
      throw new AutoglmError(
        'download_failed',
        `${host}: does not answer like a Hugging Face hub for ${label}`,
        {
          hint: 'Check HF_ENDPOINT, and whether a proxy answers in the place of the hub.',
          details: { host, status: response.statusCode },
        },
      );
    }
    const isRedirect = (response.statusCode ?? 0) >= 300;
    const size = Number(headers['x-linked-size'] ?? (isRedirect ? Number.NaN : headers['content-length']));
    return { commit, etag, size: Number.isSafeInteger(size) ? size : null };
  }

  #resolveUrl(repository: string, revision: string, file: string): string {
    const path = file.split('/').map(encodeURIComponent).join('/');
    return `${this.endpoint}/${repository}/resolve/${encodeURIComponent(revision)}/${path}`;
  }

  #request(url: string, method: 'GET' | 'HEAD', redirects: 'follow' | 'same-origin') {
    const { authorization } = this;
    const { signal } = this.context;
    return { url, method, headers: {}, authorization, redirects, timeouts: HTTP_TIMEOUTS, signal };
  }
}

interface Listing {
  readonly sha: string;
  readonly siblings: readonly ({ readonly rfilename?: unknown } | null)[];
}

function parseListing(text: string, url: string): Listing {
  let value: Partial<Listing> | null = null;
  try {
    value = JSON.parse(text) as Partial<Listing> | null;
  } catch {
    // Reported below, like every other answer of the wrong shape.
  }
  const { sha, siblings } = value ?? {};
  if (typeof sha === 'string' && /^[0-9a-f]{40}$/.test(sha) && Array.isArray(siblings))
    return { sha, siblings };
  const { host } = new URL(url);
  throw new AutoglmError('download_failed', `${host}: does not answer like a Hugging Face hub`, {
    hint: 'Check HF_ENDPOINT, and whether a proxy answers in the place of the hub.',
    details: { host },
  });
}

/** HF_TOKEN, else the token file of Hugging Face's login; null without one. */
async function readToken(): Promise<string | null> {
  const path = process.env.HF_TOKEN_PATH || join(hubHomeFolder(), 'token');
  const text = process.env.HF_TOKEN ?? (await readFile(path, 'utf8').catch(() => ''));
  const token = text.trim();
  if (token === '') return null;
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new AutoglmError('invalid_parameter', 'HF_TOKEN: expected printable characters without spaces');
}
