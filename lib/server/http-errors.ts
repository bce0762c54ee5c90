import { AutoglmError, type ErrorCode } from '../errors';

/**
 * The one place where an error becomes an HTTP status and OpenAI's error object. Codes of the package come from
 * lib/errors.ts; refusals are the finer reasons only a server knows, each riding on one of those codes.
 */
const STATUS_BY_CODE: Readonly<Record<ErrorCode, number>> = {
  invalid_parameter: 400,
  context_length_exceeded: 400,
  template_failed: 400,
  template_budget_exceeded: 400,
  grammar_budget_exceeded: 400,
  unauthorized: 401,
  forbidden_host: 403,
  model_not_found: 404,
  queue_full: 429,
  rate_limited: 429,
  // 499 is what proxies log for a client that went away: nobody is left to read it.
  aborted: 499,
  internal: 500,
  numeric_error: 500,
  invalid_model_file: 500,
  unsupported_model: 500,
  model_file_changed: 500,
  no_binary: 500,
  download_failed: 502,
  download_incomplete: 502,
  offline: 503,
  kv_exhausted: 503,
  out_of_memory: 503,
  device_lost: 503,
  engine_closed: 503,
  engine_failed: 503,
  node_unavailable: 503,
  deadline_exceeded: 504,
};

const REFUSALS = {
  invalid_json: { code: 'invalid_parameter', status: 400 },
  malformed_request: { code: 'invalid_parameter', status: 400 },
  unsupported_parameter: { code: 'invalid_parameter', status: 400 },
  forbidden_origin: { code: 'forbidden_host', status: 403 },
  not_found: { code: 'invalid_parameter', status: 404 },
  method_not_allowed: { code: 'invalid_parameter', status: 405 },
  request_timeout: { code: 'deadline_exceeded', status: 408 },
  body_too_large: { code: 'invalid_parameter', status: 413 },
  unsupported_media_type: { code: 'invalid_parameter', status: 415 },
  headers_too_large: { code: 'invalid_parameter', status: 431 },
  shutting_down: { code: 'engine_closed', status: 503 },
} as const satisfies Readonly<Record<string, { code: ErrorCode; status: number }>>;

export type Refusal = keyof typeof REFUSALS;

export interface RefusalDetails {
  /** The request field at fault, as in `messages[0].role`. */
  readonly param?: string;
  /** Which part of the request: body, header, path, query. */
  readonly where?: string;
  readonly found?: string;
  readonly allowed?: string;
  /** Response headers this refusal needs, such as `allow`. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** An error whose wire code is the refusal's name. */
export function refuse(refusal: Refusal, message: string, details: RefusalDetails = {}): AutoglmError {
  return new AutoglmError(REFUSALS[refusal].code, message, {
    details: { ...details, refusal },
    retryable: refusal === 'shutting_down' || refusal === 'request_timeout',
  });
}

export interface WireError {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
  readonly request_id: string;
  readonly where: string | null;
  readonly found: string | null;
  readonly allowed: string | null;
  readonly retryable: boolean;
  readonly retry_after_ms: number | null;
}

export interface HttpFailure {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: { readonly error: WireError };
}

/** A full queue or a shutting-down server rarely clears sooner. */
const DEFAULT_RETRY_AFTER_MS = 1_000;

/** Names of engine options as this API spells them. */
const WIRE_NAMES: Readonly<Record<string, string>> = {
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  logitBias: 'logit_bias',
  maxTokens: 'max_tokens',
  ignoreEos: 'ignore_eos',
  cacheSalt: 'cache_salt',
  templateOptions: 'chat_template_kwargs',
  tokens: 'prompt',
  reasoningBudget: 'reasoning_budget',
  toolChoice: 'tool_choice',
  toolCalls: 'tool_calls',
  toolCallId: 'tool_call_id',
};

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}

const textOrNull = (value: unknown): string | null =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : null;

/** Engine paths that this API has one level deeper. */
const IN_FUNCTION = /^(tools\[\d+\]|messages\[\d+\]\.tool_calls\[\d+\])\.(?!id\b)/;

/** The field at fault as this API spells it; the engine says `logitBias[5]`, or `a key of logitBias`. */
function wireParam({ param, path }: Readonly<Record<string, unknown>>): string | null {
  const given = textOrNull(param ?? path);
  if (given === null || given === '') return null;
  const spelled = given.replace(/[A-Za-z]+/g, (word) => WIRE_NAMES[word] ?? word);
  const own = param === undefined ? spelled.replace(IN_FUNCTION, '$1.function.') : spelled;
  return own.split(' ').at(-1) ?? null;
}

/** The engine's message with its own name of the field replaced, so that the client finds it in what it sent. */
function wireMessage({ message, hint, details }: AutoglmError): string {
  const { path } = details;
  const param = wireParam(details);
  const spelled = typeof path === 'string' && param !== null ? message.replace(path, param) : message;
  return hint === undefined ? spelled : `${spelled}. ${hint}`;
}

/** What a foreign exception says may hold anything, so the client gets the request id and the log gets the cause. */
function asAutoglmError(error: unknown): AutoglmError {
  if (AutoglmError.is(error)) return error;
  return new AutoglmError('internal', 'the server failed on this request; its log names the cause', {
    cause: error,
  });
}

export function toHttpFailure(error: unknown, requestId: string): HttpFailure {
  const known = asAutoglmError(error);
  const { details } = known;
  const name = details.refusal as Refusal | undefined;
  const status = name === undefined ? STATUS_BY_CODE[known.code] : REFUSALS[name].status;
  const isBusy = status === 429 || status === 503;
  const given = details.retryAfterMs;
  const retryAfterMs = !isBusy ? null : typeof given === 'number' ? given : DEFAULT_RETRY_AFTER_MS;
  return {
    status,
    headers: {
      ...(details.headers as Record<string, string> | undefined),
      ...(retryAfterMs === null
        ? {}
        : { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) }),
    },
    body: {
      error: {
        message: wireMessage(known),
        type: typeOf(status),
        param: wireParam(details),
        code: name ?? known.code,
        request_id: requestId,
        where: textOrNull(details.where),
        found: textOrNull(details.found ?? details.promptTokens),
        allowed: textOrNull(details.allowed ?? details.contextLength),
        retryable: known.retryable,
        retry_after_ms: retryAfterMs,
      },
    },
  };
}
