import { AutoglmError } from '../../../errors';
import { checkpointFiles, noWeightsError, otherParts } from '../repo-files';
import { type HubName, isPlainPath } from '../source-name';
import { type FetchContext, type FoundModel, NO_FACTS, type SourceFacts } from '../source-types';
import { exchange } from '../transfer/http-exchange';
import { HTTP_TIMEOUTS, readText } from '../transfer/http-request';
import { fetchIntoStore, type StoreDownload } from './store-fetch';

const DEFAULT_REVISION = 'master';
const MAX_LISTING_BYTES = 16 << 20;

interface ListedFile {
  readonly path: string;
  readonly size: number | null;
  readonly sha256: string | null;
}

/** Fetches a file, or the files of a checkpoint, from ModelScope into our own cache. */
export async function fetchFromModelScope(
  name: HubName,
  facts: SourceFacts,
  context: FetchContext,
): Promise<FoundModel> {
  return fetchIntoStore(name, facts, context, async () => {
    const listed = await listFiles(name, context);
    const paths = listed.map((file) => file.path);
    const wanted = name.file === null ? checkpointFiles(paths) : [name.file, ...otherParts(name.file)];
    if (wanted === null) throw noWeightsError(name.repository, 'modelscope', paths);
    const downloads = wanted.map((path) => {
      const file = listed.find((candidate) => candidate.path === path);
      if (file === undefined) throw noSuchFile(name, path);
      return toDownload(name, file, path === name.file ? facts : NO_FACTS);
    });
    return { downloads, isDirectory: name.file === null };
  });
}

/** Source: modelscope, hub/api.py: a file tree as JSON. */
async function listFiles(name: HubName, context: FetchContext): Promise<ListedFile[]> {
  const query = new URLSearchParams({ Revision: name.revision ?? DEFAULT_REVISION, Recursive: 'True' });
  const url = `${endpoint()}/api/v1/models/${name.repository}/repo/files?${query}`;
  const { host } = new URL(url);
  const { signal } = context;
  const request = { url, method: 'GET', headers: {}, authorization: null, redirects: 'follow' } as const;
  const response = await exchange({ ...request, timeouts: HTTP_TIMEOUTS, signal }, name.repository, context);
  const text = await readText(response, host, MAX_LISTING_BYTES);
  const files = parseFiles(text);
  if (files !== null) return files;
  throw new AutoglmError('download_failed', `${host}: does not answer like ModelScope`, {
    hint: 'Check MODELSCOPE_ENDPOINT, and whether a proxy answers in the place of the hub.',
    details: { host },
  });
}

function parseFiles(text: string): ListedFile[] | null {
  let value: { readonly Data?: { readonly Files?: unknown } | null } | null;
  try {
    value = JSON.parse(text) as { readonly Data?: { readonly Files?: unknown } | null } | null;
  } catch {
    return null;
  }
  const files = value?.Data?.Files;
  if (!Array.isArray(files)) return null;
  return files.flatMap((file: unknown) => {
    const { Path, Size, Sha256, Type } = (file ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof Path !== 'string' || Type === 'tree' || !isPlainPath(Path)) return [];
    const size = typeof Size === 'number' && Number.isSafeInteger(Size) && Size >= 0 ? Size : null;
    const sha256 = typeof Sha256 === 'string' && /^[0-9a-f]{64}$/i.test(Sha256) ? Sha256.toLowerCase() : null;
    return [{ path: Path, size, sha256 }];
  });
}

function toDownload(name: HubName, file: ListedFile, facts: SourceFacts): StoreDownload {
  const query = new URLSearchParams({ Revision: name.revision ?? DEFAULT_REVISION, FilePath: file.path });
  const label = file.path.split('/').at(-1) ?? file.path;
  return {
    name: label,
    remote: {
      url: `${endpoint()}/api/v1/models/${name.repository}/repo?${query}`,
      authorization: null,
      label,
      identity: file.sha256,
      facts: { sha256: facts.sha256 ?? file.sha256, size: facts.size ?? file.size },
    },
  };
}

function endpoint(): string {
  const address = (process.env.MODELSCOPE_ENDPOINT || 'https://www.modelscope.cn').replace(/\/+$/, '');
  if (/^https?:\/\/[^/?#]/.test(address) && URL.canParse(address)) return address;
  throw new AutoglmError('invalid_parameter', 'MODELSCOPE_ENDPOINT: expected an http or https address');
}

function noSuchFile(name: HubName, path: string): AutoglmError {
  return new AutoglmError('model_not_found', `modelscope: ${name.repository} has no file ${path}`, {
    hint: 'Check the spelling of the file and the revision.',
    details: { repository: name.repository, file: path },
  });
}
