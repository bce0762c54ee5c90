import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { AutoglmError } from '../../../errors';
import { throwIfAborted } from '../../byte-source';
import type { FetchContext } from '../source-types';
import { type HttpRequest, sendRequest } from './http-request';
import { isServerTrouble, MAX_RATE_LIMIT_WAIT_MS, requestedWaitMs, statusError } from './http-status';

/** Waits between tries of a server in trouble, milliseconds. */
const PAUSES_MS: readonly number[] = [500, 2_000];

/**
 * Sends a request until it succeeds, gives the head of the answer, and throws for every other status. A server in trouble
 * is asked three times; one that says "later" is obeyed when the wait is short, and never asked again before.
 */
export async function exchange(
  request: HttpRequest,
  label: string,
  context: FetchContext,
  isAccepted: (status: number) => boolean = (status) => status >= 200 && status < 300,
): Promise<IncomingMessage> {
  const { host } = new URL(request.url);
  let waitedMs = 0;
  for (let attempt = 0; ; attempt += 1) {
    const response = await sendRequest(request);
    const status = response.statusCode ?? 0;
    if (isAccepted(status)) return response;
    response.destroy();
    const error = statusError(response, label, host);
    const asked = status === 429 || status === 503 ? requestedWaitMs(response) : null;
    const pause = asked ?? (isServerTrouble(status) ? PAUSES_MS[attempt] : undefined);
    if (pause === undefined || attempt >= PAUSES_MS.length || waitedMs + pause > MAX_RATE_LIMIT_WAIT_MS) {
      throw error;
    }
    waitedMs += pause;
    context.log({ level: 'info', text: `${error.message}; waiting ${pause} ms`, fields: { host, status } });
    await pauseFor(pause, context.signal);
  }
}

/** Sleeps, and ends early with `aborted`. */
export async function pauseFor(ms: number, signal: AbortSignal | undefined): Promise<void> {
  throwIfAborted(signal);
  await sleep(ms, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    throw new AutoglmError('aborted', 'the load was aborted', { cause: error });
  });
}
