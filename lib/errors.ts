/**
 * Every failure this package reports on purpose, by code. A code is part of the public API: it never changes meaning.
 * The native half knows the same list (native/base/error_codes.def); a test compares the two.
 */
export type ErrorCode =
  | 'invalid_parameter'
  | 'invalid_model_file'
  | 'unsupported_model'
  | 'model_not_found'
  | 'model_file_changed'
  | 'download_failed'
  | 'download_incomplete'
  | 'offline'
  | 'context_length_exceeded'
  | 'template_failed'
  | 'template_budget_exceeded'
  | 'grammar_budget_exceeded'
  | 'queue_full'
  | 'rate_limited'
  | 'deadline_exceeded'
  | 'aborted'
  | 'kv_exhausted'
  | 'out_of_memory'
  | 'numeric_error'
  | 'no_binary'
  | 'device_lost'
  | 'engine_closed'
  | 'engine_failed'
  | 'node_unavailable'
  | 'unauthorized'
  | 'forbidden_host'
  | 'internal';

/** Codes after which the same call may succeed later, unchanged. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'download_failed',
  'download_incomplete',
  'queue_full',
  'rate_limited',
  'kv_exhausted',
  'engine_failed',
  'node_unavailable',
]);

export interface AutoglmErrorOptions {
  /** What the reader can do about it, one sentence. */
  readonly hint?: string;
  /** Values behind the message, safe to log: never prompts, keys or addresses. */
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
  /** Overrides the code's default. */
  readonly retryable?: boolean;
}

const MARKER = Symbol.for('open-autoglm.error');

/** The one error class of this package. `message` says what was expected, what was found and where. */
export class AutoglmError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  readonly retryable: boolean;
  readonly [MARKER] = true;

  constructor(code: ErrorCode, message: string, options: AutoglmErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = code === 'aborted' ? 'AbortError' : 'AutoglmError';
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
    this.retryable = options.retryable ?? RETRYABLE.has(code);
  }

  /** True for errors of any copy of this package, also one loaded twice or in the other module system. */
  static is(value: unknown): value is AutoglmError {
    return typeof value === 'object' && value !== null && MARKER in value;
  }
}

/** Plain form of an error that survives postMessage; `reviveError` restores the class on the other side. */
export interface SerializedError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly retryable: boolean;
}

export function serializeError(error: unknown): SerializedError {
  if (AutoglmError.is(error)) {
    const { code, message, hint, details, retryable } = error;
    return { code, message, hint, details, retryable };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'internal', message, retryable: false };
}

export function reviveError(error: SerializedError): AutoglmError {
  const { code, message, hint, details, retryable } = error;
  return new AutoglmError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(details === undefined ? {} : { details }),
    retryable,
  });
}
