import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Adapter } from '../../lib/engine/load-types';
import { type RunningServer, serve } from '../../lib/server';
import { ScriptedEngine } from './scripted-engine';

const adapter = (name: string): Adapter => ({
  name,
  info: { name, source: name, format: 'peft', baseModel: null, rank: 4, scale: 1, bytes: 1 },
  close: async () => {},
  [Symbol.asyncDispose]: async () => {},
});

let engine: ScriptedEngine;
let server: RunningServer;
beforeAll(async () => {
  engine = new ScriptedEngine('tiny', 'org/other:x');
  for (const model of engine.models) model.adapters = [adapter('sql'), adapter('poems')];
  server = await serve(engine, { port: 0 });
});
afterAll(() => server.close({ graceMs: 0 }));

const complete = (model: string): Promise<Response> =>
  fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, prompt: 'Hi', max_tokens: 3 }),
  });

test('models are listed with their adapters, and each can be looked up', async () => {
  const list = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
  const ids = list.data.map(({ id }) => id);
  const names = ['tiny', 'org/other:x'].flatMap((id) => [id, `${id}:sql`, `${id}:poems`]);
  expect(ids).toEqual(names);
  for (const id of ids) {
    const one = await fetch(`${server.url}/v1/models/${id}`);
    expect(await one.json()).toMatchObject({ id });
  }
});

test('base:adapter chooses the adapter, the base name none, and the answer says which', async () => {
  for (const [name, model, expected] of [
    ['tiny', 'tiny', undefined],
    ['tiny:sql', 'tiny', 'sql'],
    ['org/other:x', 'org/other:x', undefined],
    ['org/other:x:poems', 'org/other:x', 'poems'],
  ] as const) {
    const response = await complete(name);
    expect(await response.json()).toMatchObject({ model: name });
    const seen = engine.models.find(({ id }) => id === model)?.seen.at(-1);
    expect(seen?.options.adapter).toBe(expected);
  }
});

test('an adapter that is not loaded is 404 model_not_found, like a model that is not', async () => {
  for (const name of ['tiny:nobody', 'nobody:sql', 'tiny:', ':sql']) {
    const response = await complete(name);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: 'model_not_found', param: 'model' } });
  }
});
