import type { IncomingMessage } from 'node:http';
import { AutoglmError } from '../../../errors';

/** A wait that somebody at a terminal accepts; a hub that asks for more is an error that says for how long. */
export const MAX_RATE_LIMIT_WAIT_MS = 60_000;

/**
 * Milliseconds that a 429 or 503 answer asks for, or null when it does not say. Source: RFC 9110 10.2.3 Retry-After, and
 * the drafts of draft-ietf-httpapi-ratelimit-headers: `RateLimit: "name";r=0;t=30` (draft 8 on), `limit=.., reset=30`
 * (before), `RateLimit-Reset: 30` (first).
 */
export function requestedWaitMs(response: IncomingMessage): number | null {
  const retryAfter = response.headers['retry-after'];
  if (retryAfter !== undefined) {
    const seconds = Number(retryAfter);
    const waitMs = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(retryAfter) - Date.now();
    if (Number.isFinite(waitMs)) return Math.max(0, waitMs);
  }
  const rateLimit = String(response.headers.ratelimit ?? '');
  const reset = /(?:^|[;,\s])(?:t|reset)=(\d+)/.exec(rateLimit)?.[1] ?? response.headers['ratelimit-reset'];
  const seconds = Number(reset);
  return reset !== undefined && Number.isFinite(seconds) ? Math.max(0, seconds * 1000) : null;
}

/** Answers of a server in trouble: the same request may pass in a moment. */
export function isServerTrouble(status: number): boolean {
  return status === 408 || status === 500 || status === 502 || status === 503 || status === 504;
}

/** The error for a status that is not a success. `label` names what was asked for. */
export function statusError(response: IncomingMessage, label: string, host: string): AutoglmError {
  const status = response.statusCode ?? 0;
  const details = { host, status };
  switch (status) {
    case 401:
    case 403:
      return new AutoglmError('unauthorized', `${host}: ${label} is private, gated or absent (${status})`, {
        hint: 'Accept its licence on the hub and set HF_TOKEN to a token that may read it.',
        details,
      });
    case 404:
    case 410:
      return new AutoglmError('model_not_found', `${host}: there is no ${label} (${status})`, {
        hint: 'Check the spelling of the repository, the file and the revision.',
        details,
      });
    case 429: {
      const waitMs = requestedWaitMs(response);
      const when = waitMs === null ? 'without saying for how long' : `for ${Math.ceil(waitMs / 1000)} s`;
      return new AutoglmError('rate_limited', `${host}: too many requests, refused ${when} (429)`, {
        hint: 'Try again later; a token (HF_TOKEN) raises the limit.',
        details: { ...details, retryAfterMs: waitMs },
      });
    }
    default:
      return new AutoglmError('download_failed', `${host}: answered ${status} for ${label}`, {
        details,
        retryable: isServerTrouble(status),
      });
  }
}
