import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, type TestContext, test } from 'vitest';
import { createEngine, type Engine, type Model, type ToolDefinition } from '../../dist/index.js';
import { loadSmollm2 } from './smollm2';

// Goal: a real model with tools in its prompt. It is too small to use them well, so the checks are about what holds for any
// answer: nothing is lost, and a call that is asked for is begun.
const { templates } = JSON.parse(
  readFileSync(join(__dirname, '..', 'fixtures', 'templates', 'dialect-vectors.json'), 'utf8'),
) as { readonly templates: Readonly<Record<string, { readonly source: string }>> };

const messages = [{ role: 'user' as const, content: 'What is the weather in Paris? Use the tool.' }];
const tools: readonly ToolDefinition[] = [
  {
    name: 'get_weather',
    description: 'Weather of a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
];

let engine: Engine;
let loaded: Model | string;
beforeAll(async () => {
  engine = await createEngine({ threads: 2 });
  loaded = await loadSmollm2(engine, {
    contextLength: 512,
    kvCache: { memory: '64MiB' },
    chatTemplate: templates.hermes?.source ?? '',
  });
});
afterAll(() => engine.close());

function modelFor({ skip }: TestContext): Model {
  return typeof loaded === 'string' ? skip(`SmolLM2 cannot be fetched: ${loaded}`) : loaded;
}

test('answers with tools in its prompt, and nothing of the answer is lost', async (context) => {
  const model = modelFor(context);
  const result = await model.generate({ messages, tools, maxTokens: 32, temperature: 0 });
  const raw = await model.detokenize(result.tokens, { skipSpecialTokens: true });
  if (result.toolCalls.length === 0) expect(result.text.trim()).toBe(raw.trim());
  else for (const call of result.toolCalls) expect(raw).toContain(call.name);
  expect(result.usage.promptTokens).toBeGreaterThan(100);
});

test('begins the call that is required', async (context) => {
  const model = modelFor(context);
  const run = model.generate({ messages, tools, toolChoice: 'required', maxTokens: 48, temperature: 0 });
  const types: string[] = [];
  for await (const event of run) types.push(event.type);
  const { text, toolCalls, warnings } = await run;
  expect(types[0]).toBe('tool-input');
  if (toolCalls.length > 0) expect(toolCalls[0]?.name).toBe('get_weather');
  else {
    expect(text).toContain('get_weather');
    expect(warnings.map(({ code }) => code)).toContain('incomplete_tool_call');
  }
});
