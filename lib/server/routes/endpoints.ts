import type { GenerateOptions } from '../../engine/types';
import type { ServerLimits } from '../options';
import { chatRequestSchema, chatToGenerate, parseChatRequest } from '../wire/chat-request';
import {
  completionRequestSchema,
  completionToGenerate,
  parseCompletionRequest,
} from '../wire/completion-request';
import { chatShape, completionShape, type ResponseHead, type ResponseShape } from '../wire/shapes';

/** A checked request, in the terms both endpoints share. */
export interface GenerateCall {
  readonly model: string;
  readonly isStream: boolean;
  readonly includeUsage: boolean;
  readonly choicesPerPrompt: number;
  readonly prompts: readonly GenerateOptions[];
  shapeFor(head: ResponseHead): ResponseShape;
}

export interface Endpoint {
  readonly idPrefix: string;
  /** Throws the refusal a bad body deserves. */
  parse(body: unknown): GenerateCall;
}

export function chatEndpoint(limits: ServerLimits): Endpoint {
  const schema = chatRequestSchema(limits);
  return {
    idPrefix: 'chatcmpl-',
    parse: (body) => {
      const request = parseChatRequest(schema, body);
      const includeUsage = request.stream_options?.include_usage ?? false;
      return {
        model: request.model,
        isStream: request.stream ?? false,
        includeUsage,
        choicesPerPrompt: request.n ?? 1,
        prompts: [chatToGenerate(request)],
        shapeFor: (head) => chatShape(head, includeUsage),
      };
    },
  };
}

export function completionEndpoint(limits: ServerLimits): Endpoint {
  const schema = completionRequestSchema(limits);
  return {
    idPrefix: 'cmpl-',
    parse: (body) => {
      const request = parseCompletionRequest(schema, body);
      const includeUsage = request.stream_options?.include_usage ?? false;
      return {
        model: request.model,
        isStream: request.stream ?? false,
        includeUsage,
        choicesPerPrompt: request.n ?? 1,
        prompts: completionToGenerate(request),
        shapeFor: (head) =>
          completionShape(head, {
            usageInChunks: includeUsage,
            hasAlternatives: (request.logprobs ?? 0) > 0,
          }),
      };
    },
  };
}
