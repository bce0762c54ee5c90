/** One line for the host's log; has the shape of the engine's log records. */
export interface SourceLogRecord {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly text: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** Bytes of one file. `loaded` counts from the file's start, so that a resumed download does not begin at 0. */
export interface DownloadProgress {
  readonly file: string;
  readonly loaded: number;
  /** Null while the size is unknown. */
  readonly total: number | null;
  readonly bytesPerSecond: number;
}

/** What is known about a file before it is fetched. */
export interface SourceFacts {
  /** Lower-case hex. */
  readonly sha256: string | null;
  /** Bytes. */
  readonly size: number | null;
}

export const NO_FACTS: SourceFacts = { sha256: null, size: null };

/** What every step of a fetch needs from its caller. */
export interface FetchContext {
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (progress: DownloadProgress) => void;
  readonly log: (record: SourceLogRecord) => void;
}

/** A model on this machine. */
export interface FoundModel {
  /** File or directory. */
  readonly path: string;
  /** Commit of the hub, or null where there is none. */
  readonly revision: string | null;
}
