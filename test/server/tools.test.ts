import { rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine } from '../../lib/engine/types';
import type { RunningServer } from '../../lib/server';
import { chatChunkSchema, chatCompletionSchema } from '../../lib/server/wire/responses';
import { createEngine } from '../engine/engine-under-test';
import { writeScriptedCheckpoint } from '../engine/scripted-checkpoint';

// Goal: what the official client's helpers do with tools works with this server.
// Method: the real engine with a checkpoint whose answers are scripts; which one depends on the last message.
const TEMPLATE = `{# <think>...</think> #}{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}<|{{ message.role }}|>
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}{% endfor %}<|{{ 'after' if messages[-1].role == 'tool' else script or 'call' }}|>`;
const SCRIPTS = {
  '<|call|>': [
    '<think>Let me see.</think>\n\nOne moment. ',
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Köln", "days": 2}}</tool_call>\n',
    '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>',
  ],
  '<|after|>': ['It is 3° in Köln.'],
  '<|bare|>': ['<tool_call>{"name": "get_time"}</tool_call>'],
};

type ServerModule = typeof import('../../lib/server');
const { serve } = createRequire(__filename)(
  join(__dirname, '..', '..', 'dist', 'server', 'index.js'),
) as ServerModule;

const tools: OpenAI.ChatCompletionTool[] = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'Weather of a city',
      parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
    },
  },
  { type: 'function', function: { name: 'get_time', parameters: { type: 'object', properties: {} } } },
];
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Weather?' }];

let engine: Engine;
let server: RunningServer;
let client: OpenAI;
let folder: string;
let model: string;

beforeAll(async () => {
  folder = writeScriptedCheckpoint({ template: TEMPLATE, scripts: SCRIPTS });
  engine = await createEngine({ threads: 1 });
  model = (await engine.loadModel({ source: folder })).id;
  server = await serve(engine, { port: 0 });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server.close();
  await engine.close();
  rmSync(folder, { recursive: true });
});

describe('a whole answer', () => {
  test('has text, reasoning and calls', async () => {
    const answer = await client.chat.completions.create({ model, messages, tools });
    const [choice] = answer.choices;
    expect(choice?.finish_reason).toBe('tool_calls');
    expect(choice?.message).toMatchObject({
      role: 'assistant',
      content: 'One moment.',
      reasoning_content: 'Let me see.',
      tool_calls: [
        { type: 'function', function: { name: 'get_weather', arguments: '{"city": "Köln", "days": 2}' } },
        { type: 'function', function: { name: 'get_time', arguments: '{}' } },
      ],
    });
    expect(answer.usage?.completion_tokens_details?.reasoning_tokens).toBeGreaterThan(0);
    chatCompletionSchema.parse(JSON.parse(JSON.stringify(answer)));
  });

  test('has null for content when there are calls alone, and no calls without tools', async () => {
    const options = { model, messages, chat_template_kwargs: { script: 'bare' } };
    const answer = await client.chat.completions.create({ ...options, tools });
    expect(answer.choices[0]?.message.content).toBeNull();
    for (const more of [{}, { tools, tool_choice: 'none' as const }]) {
      const text = await client.chat.completions.create({ ...options, ...more });
      expect(text.choices[0]?.message).toEqual({
        role: 'assistant',
        content: '<tool_call>{"name": "get_time"}</tool_call>',
        refusal: null,
        annotations: [],
      });
      expect(text.choices[0]?.finish_reason).toBe('stop');
    }
  });

  test('ends after one call when parallel calls are not wanted', async () => {
    const answer = await client.chat.completions.create({
      model,
      messages,
      tools,
      parallel_tool_calls: false,
    });
    expect(answer.choices[0]?.message.tool_calls).toHaveLength(1);
    expect(answer.choices[0]?.finish_reason).toBe('tool_calls');
  });
});

describe('a stream', () => {
  test('has deltas whose index, id and name say what they belong to', async () => {
    const stream = await client.chat.completions.create({ model, messages, tools, stream: true });
    const calls: { id: string; name: string; arguments: string }[] = [];
    let reasoning = '';
    let content = '';
    let reason: string | null = null;
    for await (const chunk of stream) {
      chatChunkSchema.parse(chunk);
      const { delta, finish_reason } = chunk.choices[0] ?? { delta: {}, finish_reason: null };
      reasoning += (delta as { reasoning_content?: string }).reasoning_content ?? '';
      content += delta.content ?? '';
      reason = finish_reason ?? reason;
      for (const { index, id, function: called } of delta.tool_calls ?? []) {
        if (index === calls.length) {
          calls.push({ id: id ?? '', name: called?.name ?? '', arguments: '' });
        } else expect(id).toBeUndefined();
        const call = calls[index];
        if (call !== undefined) call.arguments += called?.arguments ?? '';
      }
    }
    expect({ reasoning, content, reason }).toEqual({
      reasoning: 'Let me see.',
      content: 'One moment.',
      reason: 'tool_calls',
    });
    expect(calls.map(({ name, arguments: given }) => [name, given])).toEqual([
      ['get_weather', '{"city": "Köln", "days": 2}'],
      ['get_time', '{}'],
    ]);
    expect(calls.every(({ id }) => /^call_\w{24}$/.test(id))).toBe(true);
  });

  test('drives the events of the client’s stream helper', async () => {
    const done: [string, string][] = [];
    const stream = client.chat.completions
      .stream({ model, messages, tools })
      .on('tool_calls.function.arguments.done', ({ name, arguments: given }) => done.push([name, given]));
    const final = await stream.finalChatCompletion();
    expect(done).toEqual([
      ['get_weather', '{"city": "Köln", "days": 2}'],
      ['get_time', '{}'],
    ]);
    expect(final.choices[0]?.message.tool_calls).toHaveLength(2);
    expect(final.choices[0]?.message.content).toBe('One moment.');
  });
});

describe('runTools', () => {
  const seen: unknown[] = [];
  const runnable = [
    {
      type: 'function' as const,
      function: {
        name: 'get_weather',
        description: 'Weather of a city',
        parameters: { type: 'object', properties: { city: { type: 'string' } } },
        parse: JSON.parse as (text: string) => { city: string },
        function: (given: { city: string }) => {
          seen.push(given);
          return '3°';
        },
      },
    },
    {
      type: 'function' as const,
      function: {
        name: 'get_time',
        description: 'Time of day',
        parameters: { type: 'object', properties: {} },
        parse: JSON.parse as (text: string) => object,
        function: () => '12:00',
      },
    },
  ];

  test.each([false, true])('calls the functions and gets the answer, streaming: %s', async (isStream) => {
    seen.length = 0;
    const runner = isStream
      ? client.chat.completions.runTools({ model, messages, stream: true, tools: runnable as never })
      : client.chat.completions.runTools({ model, messages, tools: runnable as never });
    expect(await runner.finalContent()).toBe('It is 3° in Köln.');
    expect(seen).toEqual([{ city: 'Köln', days: 2 }]);
    const results = runner.messages.filter(({ role }) => role === 'tool');
    expect(results).toHaveLength(2);
  });
});

describe('what is wrong with tools', () => {
  const deep = (levels: number): object => (levels === 0 ? {} : { a: deep(levels - 1) });
  const tool = (fields: object) => [{ type: 'function', function: { name: 'f', ...fields } }];
  const call = (fields: object) => ({ id: 'a', type: 'function', function: { name: 'f', ...fields } });
  test.each([
    ['a bad name', { tools: tool({ name: 'a b' }) }, 'tools[0].function.name'],
    ['two of one name', { tools: [...tool({}), ...tool({})] }, 'tools[1].function.name'],
    ['a schema too deep', { tools: tool({ parameters: deep(40) }) }, 'tools[0].function.parameters'],
    ['too many', { tools: Array.from({ length: 129 }, (_, i) => tool({ name: `f${i}` })[0]) }, 'tools'],
    ['another type', { tools: [{ type: 'custom' }] }, 'tools[0].type'],
    ['a choice without tools', { tool_choice: 'required' }, 'tool_choice'],
    [
      'a choice of no tool',
      { tools, tool_choice: { type: 'function', function: { name: 'x' } } },
      'tool_choice.name',
    ],
    [
      'a result before any call',
      { messages: [{ role: 'tool', content: 'x', tool_call_id: 'a' }] },
      'messages[0]',
    ],
    [
      'a result of an unknown call',
      {
        messages: [
          { role: 'assistant', tool_calls: [call({ arguments: '{}' })] },
          { role: 'tool', content: 'x', tool_call_id: 'b' },
        ],
      },
      'messages[1].tool_call_id',
    ],
    [
      'arguments that are no object',
      { messages: [{ role: 'assistant', tool_calls: [call({ arguments: '[1]' })] }] },
      'messages[0].tool_calls[0].function.arguments',
    ],
  ])('%s is refused by name', async (_, fields, param) => {
    const body = { model, messages, ...fields } as unknown as OpenAI.ChatCompletionCreateParamsNonStreaming;
    const error = await client.chat.completions.create(body).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OpenAI.BadRequestError);
    const { param: found } = error as InstanceType<typeof OpenAI.BadRequestError>;
    expect(found?.startsWith(param), `${found} for ${param}`).toBe(true);
  });
});
