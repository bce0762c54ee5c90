import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEngine, type Engine } from '../../dist/index.js';
import { type RunningServer, serve } from '../../dist/server/index.js';

const fixture = (name: string): string => join(__dirname, '..', 'fixtures', 'encoders', 'models', name);

let engine: Engine;
let server: RunningServer;
let client: OpenAI;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  for (const name of ['bert-embed', 'bert-classify', 'bert-rerank', 'qwen3-embed'])
    await engine.loadModel({ source: fixture(name), precision: 'exact', kvCache: { memory: '4MiB' } });
  server = await serve(engine, { port: 0, page: false });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server.close();
  await engine.close();
});

async function post(path: string, body: object): Promise<{ status: number; body: never }> {
  const response = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as never };
}

test('the openai client gets the vectors that the model makes, as float and as base64', async () => {
  const input = ['the quick fox', 'a dog'];
  const { embeddings } = await (engine.models[0] as Engine['models'][number]).embed(input);
  // The client asks for base64 unless told otherwise, and decodes it.
  for (const format of [{}, { encoding_format: 'float' as const }]) {
    const response = await client.embeddings.create({ model: 'bert-embed', input, ...format });
    expect(response.data.map(({ index }) => index)).toEqual([0, 1]);
    expect(response.data.map(({ embedding }) => Float32Array.from(embedding))).toEqual([...embeddings]);
    expect(response.usage).toEqual({ prompt_tokens: 9, total_tokens: 9 });
    expect(response.model).toBe('bert-embed');
  }
});

test('base64 is that of little-endian float32 numbers', async () => {
  const request = { model: 'bert-embed', input: 'a dog', encoding_format: 'base64' };
  const { body } = await post('/v1/embeddings', request);
  const [{ embedding }] = (body as { data: [{ embedding: string }] }).data;
  const bytes = Buffer.from(embedding, 'base64');
  const model = engine.models[0] as Engine['models'][number];
  const expected = (await model.embed('a dog')).embeddings[0] as Float32Array;
  expect(Array.from(expected, (_, i) => bytes.readFloatLE(4 * i))).toEqual([...expected]);
  expect(bytes).toHaveLength(4 * expected.length);
});

test('dimensions cut vectors and scale what is left to length 1', async () => {
  const input = 'the lazy dog';
  const { data } = await client.embeddings.create({ model: 'bert-embed', input, encoding_format: 'float' });
  const cut = await client.embeddings.create({
    model: 'bert-embed',
    input,
    dimensions: 5,
    encoding_format: 'float',
  });
  const head = (data[0]?.embedding ?? []).slice(0, 5);
  const length = Math.hypot(...head);
  const found = cut.data[0]?.embedding ?? [];
  expect(found).toHaveLength(5);
  for (const [i, value] of found.entries()) expect(value).toBeCloseTo((head[i] as number) / length, 6);
});

test('token ids are taken as they are', async () => {
  const model = engine.models[0] as Engine['models'][number];
  const ids = await model.tokenize('a dog', { addSpecialTokens: true });
  const { body } = await post('/v1/embeddings', { model: 'bert-embed', input: [[...ids], [...ids]] });
  const expected = (await model.embed('a dog')).embeddings[0] as Float32Array;
  for (const { embedding } of (body as { data: { embedding: number[] }[] }).data)
    expect(Float32Array.from(embedding)).toEqual(expected);
});

test('rerank orders documents by score, at most top_n of them', async () => {
  const documents = ['a quick dog', { text: 'six tokens' }, 'the fox'];
  const { body, status } = await post('/v1/rerank', {
    model: 'bert-rerank',
    query: 'what is quick',
    documents,
    top_n: 2,
    return_documents: true,
  });
  expect(status).toBe(200);
  const { results, usage } = body as {
    results: { index: number; relevance_score: number; document: { text: string } }[];
    usage: { total_tokens: number };
  };
  expect(results).toHaveLength(2);
  const [first, second] = results as [(typeof results)[0], (typeof results)[0]];
  expect(first.relevance_score).toBeGreaterThan(second.relevance_score);
  expect(first.relevance_score).toBeLessThan(1);
  expect(first.document.text).toBe(['a quick dog', 'six tokens', 'the fox'][first.index]);
  expect(usage.total_tokens).toBeGreaterThan(20);
});

test('predict answers a text with a list of labels and a batch with a list of lists', async () => {
  const model = engine.models[1] as Engine['models'][number];
  const { results } = await model.classify(['a dog', ['a dog', 'the fox']]);
  const request = { model: 'bert-classify' };
  expect((await post('/predict', { ...request, inputs: 'a dog' })).body).toEqual(results[0]);
  expect((await post('/predict', { ...request, inputs: ['a dog', 'the fox'] })).body).toEqual(results[1]);
  const batch = await post('/predict', { ...request, inputs: [['a dog'], ['a dog', 'the fox']] });
  expect(batch.body).toEqual(results);
  const sum = (results[0] ?? []).reduce((total, { score }) => total + score, 0);
  expect(sum).toBeCloseTo(1, 6);
  expect((results[0] ?? []).map(({ label }) => label).sort()).toEqual(['calm', 'glad', 'sad']);
});

test.each([
  [
    '/v1/rerank',
    { model: 'qwen3-embed', query: 'a', documents: ['b'] },
    'model',
    /cannot rerank.*bert-rerank/,
  ],
  ['/v1/embeddings', { model: 'bert-rerank', input: 'a' }, 'model', /cannot embed.*bert-embed, qwen3-embed/],
  ['/predict', { inputs: 'a' }, 'model', /bert-classify, bert-rerank/],
  [
    '/v1/chat/completions',
    { model: 'bert-embed', messages: [{ role: 'user', content: 'a' }] },
    'model',
    /cannot generate/,
  ],
  ['/v1/embeddings', { model: 'bert-embed', input: 'a', dimensions: 17 }, 'dimensions', /1\.\.16/],
  ['/v1/embeddings', { model: 'bert-embed', input: [] }, 'input', /a non-empty array of token ids/],
  ['/v1/rerank', { model: 'bert-rerank', query: 'a', documents: [] }, 'documents', /1\.\.2048/],
  ['/predict', { inputs: ['a', 'b', 'c'] }, 'inputs', /a pair/],
])('%s refuses %j', async (path, request, param, message) => {
  const { status, body } = await post(path, request);
  const { error } = body as { error: { param: string; message: string; type: string } };
  expect({ status, param: error.param }).toEqual({ status: 400, param });
  expect(error.message).toMatch(message);
});

test('a text over the model’s length is refused with both counts, and cut when asked', async () => {
  const request = { model: 'bert-embed', input: 'dog '.repeat(70) };
  const refused = await post('/v1/embeddings', request);
  expect(refused.status).toBe(400);
  expect((refused.body as { error: { message: string } }).error.message).toMatch(
    /72 tokens, the model takes 64/,
  );
  const cut = await post('/v1/embeddings', { ...request, truncate: true });
  expect((cut.body as { usage: object }).usage).toEqual({ prompt_tokens: 64, total_tokens: 64 });
});

test('GET /v1/models says what each model can do', async () => {
  const response = await fetch(`${server.url}/v1/models`);
  const { data } = (await response.json()) as { data: { id: string; tasks: string[] }[] };
  expect(data.map(({ id, tasks }) => [id, tasks])).toEqual([
    ['bert-embed', ['embed']],
    ['bert-classify', ['classify']],
    ['bert-rerank', ['classify', 'rerank']],
    ['qwen3-embed', ['generate', 'embed']],
  ]);
});
