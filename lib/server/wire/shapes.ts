import type { FinishReason, GenerateResult, TokenLogprob, Usage, Warning } from '../../engine/types';
import { AutoglmError } from '../../errors';
import type {
  ChatChunk,
  ChatCompletion,
  ChatLogprobs,
  Completion,
  CompletionLogprobs,
  WireUsage,
} from './responses';

/** What every object of one response repeats. */
export interface ResponseHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

/** A tool call of a streamed answer. */
export interface CallPlace {
  /** Counts the calls of the answer. */
  readonly index: number;
  readonly id: string;
  readonly name: string;
  /** Nothing was sent of it yet. */
  readonly isNew: boolean;
}

export interface AnswerPiece {
  /** Of `text` for `call`: more of its arguments. */
  readonly channel: 'content' | 'reasoning_content' | CallPlace;
  readonly text: string;
  readonly logprobs: readonly TokenLogprob[] | null;
  /** Characters of this answer before this piece. */
  readonly textOffset: number;
}

export interface Ending {
  readonly finishReason: FinishReason;
  readonly warnings: readonly Warning[];
}

/** How one endpoint writes answers; everything else about generating is the same for both. */
export interface ResponseShape {
  /** A chunk sent before any text of a choice, null where the endpoint has none. */
  opening(index: number): object | null;
  piece(index: number, piece: AnswerPiece): object;
  ending(index: number, ending: Ending): object;
  usage(usage: WireUsage): object;
  whole(results: readonly GenerateResult[], usage: WireUsage): object;
}

/** Prompt tokens count once per prompt, however many answers it gets; `usages` holds the answers of each in a row. */
export function toWireUsage(usages: readonly Usage[], choicesPerPrompt: number): WireUsage {
  let promptTokens = 0;
  let cachedTokens = 0;
  let completionTokens = 0;
  let reasoningTokens = 0;
  let draftedTokens = 0;
  let acceptedTokens = 0;
  for (const [i, usage] of usages.entries()) {
    completionTokens += usage.completionTokens;
    reasoningTokens += usage.reasoningTokens;
    draftedTokens += usage.draftedTokens;
    acceptedTokens += usage.acceptedTokens;
    if (i % choicesPerPrompt !== 0) continue;
    promptTokens += usage.promptTokens;
    cachedTokens += usage.cachedTokens;
  }
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: reasoningTokens,
      accepted_prediction_tokens: acceptedTokens,
      rejected_prediction_tokens: draftedTokens - acceptedTokens,
    },
  };
}

function chatFinished(reason: FinishReason): 'stop' | 'length' | 'tool_calls' {
  if (reason === 'abort') throw new AutoglmError('aborted', 'the answer was stopped before its end');
  return reason === 'tool-calls' ? 'tool_calls' : reason;
}

function finished(reason: FinishReason): 'stop' | 'length' {
  const spelled = chatFinished(reason);
  return spelled === 'tool_calls' ? 'stop' : spelled;
}

const withWarnings = (warnings: readonly Warning[]): { warnings?: { code: string; message: string }[] } =>
  warnings.length === 0 ? {} : { warnings: warnings.map(({ code, message }) => ({ code, message })) };

function chatLogprobs(logprobs: readonly TokenLogprob[] | null | undefined): ChatLogprobs | null {
  if (logprobs === null || logprobs === undefined) return null;
  const entry = ({ text, logprob, bytes }: Pick<TokenLogprob, 'text' | 'logprob' | 'bytes'>) => ({
    token: text,
    logprob,
    bytes: [...bytes],
  });
  return {
    content: logprobs.map((token) => ({ ...entry(token), top_logprobs: token.top.map(entry) })),
    refusal: null,
  };
}

type ChatDelta = ChatChunk['choices'][number]['delta'];

function chatDelta({ channel, text }: AnswerPiece): ChatDelta {
  if (channel === 'content') return { content: text };
  if (channel === 'reasoning_content') return { reasoning_content: text };
  const { index, id, name, isNew } = channel;
  if (!isNew) return { tool_calls: [{ index, function: { arguments: text } }] };
  return { tool_calls: [{ index, id, type: 'function', function: { name, arguments: text } }] };
}

type ChatAnswer = ChatCompletion['choices'][number]['message'];

function chatMessage({ text, reasoning, toolCalls }: GenerateResult): ChatAnswer {
  const calls = toolCalls.map(({ id, name, arguments: given }) => ({
    id,
    type: 'function' as const,
    function: { name, arguments: given },
  }));
  return {
    role: 'assistant',
    content: text === '' && calls.length > 0 ? null : text,
    ...(reasoning === '' ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
    refusal: null,
    annotations: [],
  };
}

/** `usageInChunks`: OpenAI's clients expect `usage: null` in each chunk once they asked for the last one's. */
export function chatShape(head: ResponseHead, usageInChunks: boolean): ResponseShape {
  const { id, created, model, system_fingerprint } = head;
  const chunk = (
    index: number,
    delta: ChatDelta,
    rest: Partial<ChatChunk['choices'][number]> = {},
  ): ChatChunk => ({
    id,
    object: 'chat.completion.chunk',
    created,
    model,
    system_fingerprint,
    choices: [{ index, delta, logprobs: null, finish_reason: null, ...rest }],
    ...(usageInChunks ? { usage: null } : {}),
  });
  return {
    opening: (index) => chunk(index, { role: 'assistant', content: '' }),
    piece: (index, piece) => chunk(index, chatDelta(piece), { logprobs: chatLogprobs(piece.logprobs) }),
    ending: (index, { finishReason, warnings }) => ({
      ...chunk(index, {}, { finish_reason: chatFinished(finishReason) }),
      ...withWarnings(warnings),
    }),
    usage: (usage): ChatChunk => ({
      id,
      object: 'chat.completion.chunk',
      created,
      model,
      system_fingerprint,
      choices: [],
      usage,
    }),
    whole: (results, usage): ChatCompletion => ({
      id,
      object: 'chat.completion',
      created,
      model,
      system_fingerprint,
      choices: results.map((result, index) => ({
        index,
        message: chatMessage(result),
        logprobs: chatLogprobs(result.logprobs),
        finish_reason: chatFinished(result.finishReason),
      })),
      usage,
      ...withWarnings(results.flatMap((result) => result.warnings)),
    }),
  };
}

/** Two alternatives may have the same text: the likelier one keeps the place, as the object has one per text. */
function topByText(token: TokenLogprob): Record<string, number> {
  const best = new Map<string, number>();
  for (const { text, logprob } of token.top) {
    if (logprob > (best.get(text) ?? Number.NEGATIVE_INFINITY)) best.set(text, logprob);
  }
  return Object.fromEntries(best);
}

function completionLogprobs(
  { logprobs, textOffset }: Pick<AnswerPiece, 'logprobs' | 'textOffset'>,
  hasAlternatives: boolean,
): CompletionLogprobs | null {
  if (logprobs === null) return null;
  let offset = textOffset;
  const textOffsets = logprobs.map(({ text }) => {
    const start = offset;
    offset += text.length;
    return start;
  });
  return {
    tokens: logprobs.map(({ text }) => text),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: hasAlternatives ? logprobs.map(topByText) : null,
    text_offset: textOffsets,
  };
}

export function completionShape(
  head: ResponseHead,
  { usageInChunks, hasAlternatives }: { readonly usageInChunks: boolean; readonly hasAlternatives: boolean },
): ResponseShape {
  const { id, created, model, system_fingerprint } = head;
  const body = (choices: Completion['choices']): Completion => ({
    id,
    object: 'text_completion',
    created,
    model,
    system_fingerprint,
    choices,
  });
  const chunk = (choice: Completion['choices'][number]): Completion => ({
    ...body([choice]),
    ...(usageInChunks ? { usage: null } : {}),
  });
  return {
    opening: () => null,
    piece: (index, piece) =>
      chunk({
        index,
        text: piece.text,
        logprobs: completionLogprobs(piece, hasAlternatives),
        finish_reason: null,
      }),
    ending: (index, { finishReason, warnings }) => ({
      ...chunk({ index, text: '', logprobs: null, finish_reason: finished(finishReason) }),
      ...withWarnings(warnings),
    }),
    usage: (usage): Completion => ({ ...body([]), usage }),
    whole: (results, usage): Completion => ({
      ...body(
        results.map(({ text, logprobs, finishReason }, index) => ({
          index,
          text,
          logprobs: completionLogprobs({ logprobs: logprobs ?? null, textOffset: 0 }, hasAlternatives),
          finish_reason: finished(finishReason),
        })),
      ),
      usage,
      ...withWarnings(results.flatMap((result) => result.warnings)),
    }),
  };
}
