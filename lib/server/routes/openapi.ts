import { z } from 'zod';
import type { ServerLimits } from '../options';
import { chatRequestSchema } from '../wire/chat-request';
import { completionRequestSchema } from '../wire/completion-request';
import { embeddingRequestSchema, predictRequestSchema, rerankRequestSchema } from '../wire/pooled-requests';
import {
  chatChunkSchema,
  chatCompletionSchema,
  completionSchema,
  errorSchema,
  healthSchema,
  modelListSchema,
  modelSchema,
} from '../wire/responses';

export type OpenApiDocument = Readonly<Record<string, unknown>>;

const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const json = (name: string) => ({ content: { 'application/json': { schema: ref(name) } } });

const ERRORS: Readonly<Record<string, string>> = {
  '400': 'A parameter is unknown, unsupported or out of range; error.param names it.',
  '401': 'No API key, or a wrong one.',
  '403': 'The Host or Origin header is not allowed.',
  '404': 'No such model or route.',
  '408': 'The body did not arrive in time.',
  '413': 'The body is too large.',
  '415': 'The body is not plain JSON in UTF-8.',
  '429': 'The queue is full; see Retry-After.',
  '500': 'The server failed on this request.',
  '503': 'The engine is shutting down or has failed; see Retry-After.',
  '504': 'The deadline passed.',
};

const errorResponses = (...statuses: readonly string[]) =>
  Object.fromEntries(
    statuses.map((status) => [status, { description: ERRORS[status] ?? '', ...json('Error') }]),
  );

const GENERATE_ERRORS = Object.keys(ERRORS);

function generateOperation(summary: string, request: string, whole: string, chunk: string) {
  return {
    summary,
    requestBody: { required: true, ...json(request) },
    responses: {
      '200': {
        description:
          'The answer: one object, or with stream: true server-sent events that end with [DONE] or an error.',
        content: {
          'application/json': { schema: ref(whole) },
          'text/event-stream': { schema: ref(chunk) },
        },
      },
      ...errorResponses(...GENERATE_ERRORS),
    },
  };
}

const pooledOperation = (summary: string, request: string) => ({
  summary,
  requestBody: { required: true, ...json(request) },
  responses: {
    '200': { description: 'The answer', content: { 'application/json': {} } },
    ...errorResponses(...GENERATE_ERRORS),
  },
});

const read = (summary: string, ok: object, ...errors: readonly string[]) => ({
  summary,
  responses: { '200': { description: 'OK', ...ok }, ...errorResponses('403', ...errors) },
});

const isPublic = { security: [] };

function paths() {
  return {
    '/v1/chat/completions': {
      post: generateOperation('Answers a conversation', 'ChatRequest', 'ChatCompletion', 'ChatChunk'),
    },
    '/v1/completions': {
      post: generateOperation('Continues a text', 'CompletionRequest', 'Completion', 'Completion'),
    },
    '/v1/embeddings': { post: pooledOperation('Makes vectors of texts', 'EmbeddingRequest') },
    '/v1/rerank': { post: pooledOperation('Orders documents by relevance to a query', 'RerankRequest') },
    '/predict': { post: pooledOperation('Labels texts or pairs of texts', 'PredictRequest') },
    '/v1/models': { get: read('Lists the loaded models', json('ModelList'), '401', '503') },
    '/v1/models/{id}': {
      get: {
        ...read('Describes one loaded model', json('Model'), '401', '404', '503'),
        parameters: [{ name: 'id', in: 'path', required: true, schema: { type: 'string' } }],
      },
    },
    '/health': {
      get: {
        ...isPublic,
        summary: 'Says whether the server can answer: 200 when a step finished lately or there is no work',
        responses: {
          '200': { description: 'Ready', ...json('Health') },
          '503': { description: 'Shutting down, stalled or failed', ...json('Health') },
          ...errorResponses('403'),
        },
      },
    },
    '/metrics': {
      get: read('Prometheus metrics', { content: { 'text/plain': { schema: { type: 'string' } } } }, '401'),
    },
    '/openapi.json': { get: read('This document', { content: { 'application/json': {} } }, '401') },
  };
}

/** The OpenAPI 3.1 document, made from the schemas requests are checked with. */
export function openApiDocument(limits: ServerLimits): OpenApiDocument {
  const schemas = {
    ChatRequest: chatRequestSchema(limits),
    ChatCompletion: chatCompletionSchema,
    ChatChunk: chatChunkSchema,
    EmbeddingRequest: embeddingRequestSchema,
    RerankRequest: rerankRequestSchema,
    PredictRequest: predictRequestSchema,
    CompletionRequest: completionRequestSchema(limits),
    Completion: completionSchema,
    Model: modelSchema,
    ModelList: modelListSchema,
    Health: healthSchema,
    Error: errorSchema,
  };
  return {
    openapi: '3.1.0',
    info: {
      title: 'open-autoglm',
      version: '1',
      description:
        'OpenAI-compatible. A null value means that the parameter was not given; unknown parameters are refused by name.',
    },
    security: [{ apiKey: [] }],
    paths: paths(),
    components: {
      securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } },
      schemas: Object.fromEntries(
        Object.entries(schemas).map(([name, schema]) => {
          const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'input' });
          return [name, rest];
        }),
      ),
    },
  };
}
