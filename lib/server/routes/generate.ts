import type { GenerateEvent, GenerateOptions, Generation, Model, Usage, Warning } from '../../engine/types';
import { AutoglmError } from '../../errors';
import type { LoggedUsage } from '../access-log';
import type { Call } from '../call';
import { toHttpFailure } from '../http-errors';
import type { ServerMetrics } from '../metrics';
import type { ServerLimits } from '../options';
import { EventStream } from '../wire/event-stream';
import { seedOfChoice } from '../wire/sampling';
import { type AnswerPiece, type ResponseShape, toWireUsage } from '../wire/shapes';

/** Everything one request needs to turn generations into an answer. */
export interface Answer {
  readonly model: Model;
  readonly call: Call;
  readonly shape: ResponseShape;
  readonly prompts: readonly GenerateOptions[];
  readonly choicesPerPrompt: number;
  readonly includeUsage: boolean;
  readonly limits: ServerLimits;
  readonly metrics: ServerMetrics;
  /** Told once when an answer ended, `error` null for a complete one. What fails before its answer began rejects. */
  readonly onDone: (usage: LoggedUsage | null, error: unknown) => void;
}

/** Refusals arrive well within this; a stream that waits longer starts its response so that proxies keep it open. */
const FIRST_EVENT_WAIT_MS = 5_000;
/** Below the idle limits usual for proxies. */
const KEEP_ALIVE_MS = 15_000;

const KEEP_ALIVE_TEXT = 'waiting';

/** Choice i of prompt p has index p * n + i. All run at once: the scheduler batches them. */
function start({ model, call, prompts, choicesPerPrompt }: Answer): readonly Generation[] {
  return prompts.flatMap((options) =>
    Array.from({ length: choicesPerPrompt }, (_, i) =>
      model.generate({ ...options, ...seedOfChoice(options.seed, i), signal: call.signal }),
    ),
  );
}

/** One usage for the log, prompts counted once. */
function total(usages: readonly Usage[], choicesPerPrompt: number): LoggedUsage {
  const wire = toWireUsage(usages, choicesPerPrompt);
  return {
    promptTokens: wire.prompt_tokens,
    completionTokens: wire.completion_tokens,
    cachedTokens: wire.prompt_tokens_details.cached_tokens,
  };
}

/** The whole answer as one JSON object. */
export async function answerWhole(answer: Answer): Promise<object> {
  const { call, choicesPerPrompt } = answer;
  try {
    const results = await Promise.all(start(answer));
    for (const result of results) answer.metrics.observeFinish(answer.model.id, result);
    const usages = results.map((result) => result.usage);
    const body = answer.shape.whole(results, toWireUsage(usages, choicesPerPrompt));
    answer.onDone(total(usages, choicesPerPrompt), null);
    return body;
  } catch (error) {
    const reason = call.reasonFor(error);
    call.cancel(reason);
    throw reason;
  } finally {
    call.end();
  }
}

type StreamedEvent = Extract<GenerateEvent, { readonly tokens: readonly number[] }>;

/** What a chunk says of an event; null when that is nothing. `calls` numbers the calls that were seen. */
function wirePiece(event: StreamedEvent, calls: Map<string, number>, textOffset: number): AnswerPiece | null {
  const logprobs = event.logprobs ?? null;
  if (event.type === 'tool-input') {
    const { id, name, delta: text } = event;
    const isNew = !calls.has(id);
    if (isNew) calls.set(id, calls.size);
    else if (text === '' && logprobs === null) return null;
    return { channel: { index: calls.get(id) ?? 0, id, name, isNew }, text, logprobs, textOffset };
  }
  const { text } = event;
  // A token that ends no character and no log-probability to report: nothing to say.
  if (text === '' && logprobs === null) return null;
  const channel = event.type === 'text' ? 'content' : 'reasoning_content';
  return { channel, text, logprobs, textOffset };
}

/**
 * Forwards one choice's events at the reader's pace. It must not touch `generation.result`: to wait for the whole
 * result tells the engine not to pause for a slow reader.
 */
async function pump(
  answer: Answer,
  stream: EventStream,
  { generation, index }: { readonly generation: Generation; readonly index: number },
  onFirst: () => void,
): Promise<Usage> {
  const { shape, metrics, model, call } = answer;
  const warnings: Warning[] = [];
  const calls = new Map<string, number>();
  let textOffset = 0;
  let isOpen = false;
  let lastAt: number | null = null;
  for await (const event of generation) {
    if (!isOpen) {
      isOpen = true;
      onFirst();
      const opening = shape.opening(index);
      if (opening !== null) await stream.send(opening);
    }
    if (event.type === 'warning') warnings.push(event.warning);
    if ('tokens' in event) {
      const now = performance.now();
      if (lastAt !== null) metrics.observeInterTokenLatency(model.id, now - lastAt);
      lastAt = now;
      const piece = wirePiece(event, calls, textOffset);
      if (piece === null) continue;
      await stream.send(shape.piece(index, piece));
      if (piece.channel === 'content') textOffset += piece.text.length;
    }
    if (event.type === 'finish') {
      metrics.observeFinish(model.id, event);
      await stream.send(shape.ending(index, { finishReason: event.finishReason, warnings }));
      return event.usage;
    }
  }
  throw call.reasonFor(new AutoglmError('engine_failed', 'the engine ended an answer without saying why'));
}

async function pumpAll(answer: Answer, stream: EventStream, onFirst: () => void): Promise<LoggedUsage> {
  const { call, choicesPerPrompt, limits } = answer;
  // A connection that moves no bytes for `stallMs` is cut: a slow engine must not look like a stalled reader.
  const keepAliveMs = Math.min(KEEP_ALIVE_MS, limits.stallMs / 3);
  const keepAlive = setInterval(() => void stream.comment(KEEP_ALIVE_TEXT), keepAliveMs);
  try {
    const generations = start(answer);
    const usages = await Promise.all(
      generations.map((generation, index) => pump(answer, stream, { generation, index }, onFirst)),
    );
    if (answer.includeUsage) await stream.send(answer.shape.usage(toWireUsage(usages, choicesPerPrompt)));
    await stream.finish();
    return total(usages, choicesPerPrompt);
  } catch (error) {
    const reason = call.reasonFor(error);
    call.cancel(reason);
    throw reason;
  } finally {
    clearInterval(keepAlive);
  }
}

const stalled = (limits: ServerLimits): AutoglmError =>
  new AutoglmError('aborted', `the client read nothing for ${limits.stallMs} ms`, { retryable: true });

/**
 * The answer as server-sent events. What fails before the first token rejects, so that it gets its HTTP status; what
 * fails later becomes the stream's last event.
 */
export async function answerStream(answer: Answer): Promise<Response> {
  const { call, limits } = answer;
  let isResponding = false;
  const stream = new EventStream(limits, {
    onCancel: () => call.cancel(new AutoglmError('aborted', 'the client went away')),
    onStall: () => call.cancel(stalled(limits)),
  });
  // Also wakes writers that wait for a reader who takes nothing.
  call.signal.addEventListener('abort', () => {
    if (isResponding) stream.fail(toHttpFailure(call.signal.reason, call.requestId).body);
  });
  const accepted = new Promise<void>((resolve, reject) => {
    const respond = (): void => {
      isResponding = true;
      resolve();
    };
    const patience = setTimeout(respond, FIRST_EVENT_WAIT_MS);
    pumpAll(answer, stream, respond)
      .then(
        (usage) => answer.onDone(usage, null),
        (error: unknown) => {
          if (isResponding) answer.onDone(null, error);
          reject(error);
        },
      )
      .finally(() => {
        clearTimeout(patience);
        call.end();
      });
  });
  await accepted;
  return new Response(stream.body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      // Tells nginx-like proxies to pass each event on at once.
      'x-accel-buffering': 'no',
    },
  });
}
