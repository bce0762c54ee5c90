import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const COMMIT = 'a'.repeat(40);

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Bytes that differ everywhere, so that a piece in the wrong place is noticed. */
export function sampleBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
}

/** Answers a request itself and gives true, or leaves it to the server and gives false. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => boolean;

/** One HTTP server on this machine that logs what it is asked. */
export abstract class FakeServer {
  readonly seen: SeenRequest[] = [];
  /** Each is asked in turn before the server answers; a spent one is removed by the test. */
  readonly faults: Fault[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      this.seen.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers });
      if (this.faults.some((fault) => fault(request, response))) return;
      this.answer(new URL(request.url ?? '', this.url), request, response);
    });
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Requests for the bytes of files. */
  abstract downloads(): SeenRequest[];
  protected abstract answer(url: URL, request: IncomingMessage, response: ServerResponse): void;
}

/** A file server with ETags, ranges and If-Range. */
export class FakeFiles extends FakeServer {
  readonly files = new Map<string, { bytes: Buffer; etag: string | null }>();

  put(path: string, bytes: Buffer, etag: string | null = `"${sha256(bytes).slice(0, 16)}"`): void {
    this.files.set(path, { bytes, etag });
  }

  downloads(): SeenRequest[] {
    return this.seen.filter((request) => request.method === 'GET');
  }

  protected answer(url: URL, request: IncomingMessage, response: ServerResponse): void {
    const file = this.files.get(url.pathname);
    if (file === undefined) response.writeHead(404).end();
    else sendFile(request, response, file.bytes, file.etag);
  }
}

export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  etag: string | null,
): void {
  const headers: Record<string, string> = etag === null ? {} : { etag };
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const condition = request.headers['if-range'];
  if (start === 0 || (condition !== undefined && condition !== etag)) {
    response.writeHead(200, { ...headers, 'content-length': bytes.length });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  } else if (start >= bytes.length) {
    response.writeHead(416, { ...headers, 'content-range': `bytes */${bytes.length}` }).end();
  } else {
    const range = `bytes ${start}-${bytes.length - 1}/${bytes.length}`;
    response.writeHead(206, { ...headers, 'content-range': range, 'content-length': bytes.length - start });
    response.end(bytes.subarray(start));
  }
}

/** A fault that sends a whole head but only `length` bytes of the body, then cuts the connection; `times` times. */
export function cutAfter(length: number, times = 1): Fault {
  let left = times;
  return (request, response) => {
    if (left === 0 || request.method !== 'GET') return false;
    left -= 1;
    const end = response.end.bind(response) as (chunk?: unknown) => ServerResponse;
    const write = response.write.bind(response);
    response.end = ((chunk?: unknown) => {
      if (!(chunk instanceof Buffer)) return end(chunk);
      // Late enough for the reader to have taken what came.
      write(chunk.subarray(0, length), () => setTimeout(() => response.destroy(), 100));
      return response;
    }) as typeof response.end;
    return false;
  };
}

/** A fault that answers with a status `times` times. */
export function refuse(status: number, headers: Record<string, string> = {}, times = 1): Fault {
  let left = times;
  return (_, response) => {
    if (left === 0) return false;
    left -= 1;
    response.writeHead(status, headers).end();
    return true;
  };
}

/** Files from this size on are served by another host, as a hub does with its large files. */
const LARGE_BYTES = 4096;

/** Hugging Face and ModelScope in one: repositories of files; large ones are redirected to `store`. */
export class FakeHub extends FakeServer {
  readonly repositories = new Map<string, Map<string, Buffer>>();

  constructor(readonly store: FakeFiles) {
    super();
  }

  /** Starts the hub with its file server. */
  static async start(): Promise<FakeHub> {
    return new FakeHub(await new FakeFiles().listen()).listen();
  }

  override async close(): Promise<void> {
    await super.close();
    await this.store.close();
  }

  addRepository(name: string, files: Readonly<Record<string, Buffer | string>>): void {
    const entries = Object.entries(files).map(([path, bytes]) => [path, Buffer.from(bytes)] as const);
    this.repositories.set(name, new Map(entries));
    for (const [, bytes] of entries) this.store.put(`/${sha256(bytes)}`, bytes, '"of-the-store"');
  }

  downloads(): SeenRequest[] {
    const own = this.seen.filter(({ method, path }) => method === 'GET' && /resolve|FilePath/.test(path));
    return [...own, ...this.store.downloads()];
  }

  protected answer(url: URL, request: IncomingMessage, response: ServerResponse): void {
    const revision = /^\/api\/models\/(.+)\/revision\/([^/]+)$/.exec(url.pathname);
    const resolved = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const tree = /^\/api\/v1\/models\/(.+)\/repo\/files$/.exec(url.pathname);
    const blob = /^\/api\/v1\/models\/(.+)\/repo$/.exec(url.pathname);
    const files = this.repositories.get((revision ?? resolved ?? tree ?? blob)?.[1] ?? '');
    if (files === undefined) response.writeHead(404).end();
    else if (revision !== null) this.#list(files, response);
    else if (tree !== null) this.#tree(files, response);
    else {
      const path = resolved?.[3] ?? url.searchParams.get('FilePath') ?? '';
      const bytes = files.get(decodeURIComponent(path));
      if (bytes === undefined) response.writeHead(404).end();
      else if (resolved !== null) this.#resolve(bytes, request, response);
      else sendFile(request, response, bytes, null);
    }
  }

  #list(files: ReadonlyMap<string, Buffer>, response: ServerResponse): void {
    const siblings = [...files.keys()].map((rfilename) => ({ rfilename }));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ sha: COMMIT, siblings }));
  }

  #tree(files: ReadonlyMap<string, Buffer>, response: ServerResponse): void {
    const Files = [...files].map(([Path, bytes]) => ({
      Path,
      Type: 'blob',
      Size: bytes.length,
      Sha256: sha256(bytes),
    }));
    response.end(JSON.stringify({ Data: { Files } }));
  }

  #resolve(bytes: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const headers = { 'x-repo-commit': COMMIT };
    if (bytes.length < LARGE_BYTES) {
      const etag = createHash('sha1').update(bytes).digest('hex');
      response.setHeader('x-repo-commit', COMMIT);
      sendFile(request, response, bytes, `"${etag}"`);
      return;
    }
    const hash = sha256(bytes);
    response.writeHead(302, {
      ...headers,
      location: `${this.store.url}/${hash}`,
      'x-linked-etag': `"${hash}"`,
      'x-linked-size': String(bytes.length),
    });
    response.end();
  }
}
