import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, GenerateEvent, GenerateOptions, Model, ToolDefinition } from '../../lib/engine/types';
import { createEngine, expectDrained } from './engine-under-test';
import { writeScriptedCheckpoint } from './scripted-checkpoint';

// Goal: reasoning and calls come out of the engine as they went into the tokens, whatever stands between: sampling, the
// step callback, streaming decode, stop strings, readers of any speed.
// Method: checkpoints whose greedy answers are scripts.
const TEMPLATE = `{# answers may begin with <think>...</think> #}{% if tools %}{% for tool in tools %}{{ tool | tojson }}
{% endfor %}{% endif %}{% for message in messages %}<|{{ message.role }}|>
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endfor %}{% if script %}<|{{ script }}|>{% endif %}`;

const WEATHER: ToolDefinition = {
  name: 'get_weather',
  description: 'Weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const TIME: ToolDefinition = { name: 'get_time' };

const BROKEN = '<tool_call>{"name": "get_time", "arguments": {"x": tru}}</tool_call>!';
const SCRIPTS = {
  '<|both|>': [
    '<think>',
    '\nThey want Köln 🙂 weather.\n</think>\n\nI will look.\n',
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln 🙂"}}\n</tool_call>\n',
    '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>',
  ],
  '<|broken|>': [`Hm. ${BROKEN}`],
  '<|cut|>': ['Well <tool_call>{"name": "get_weather", "arguments": {"city": "Par'],
  '<|stops|>': ['<think>thought STOP here</think>one STOP two'],
  '<|mistral|>': ['Soon.', '[TOOL_CALLS]', 'get_time', '[ARGS]', '{ }'],
};

let engine: Engine;
let model: Model;
let folder: string;

beforeAll(async () => {
  folder = writeScriptedCheckpoint({
    template: TEMPLATE,
    scripts: SCRIPTS,
    controlTokens: ['<think>', '[TOOL_CALLS]', '[ARGS]'],
  });
  engine = await createEngine({ threads: 1 });
  model = await engine.loadModel({ source: folder });
});
afterAll(async () => {
  await engine.close();
  rmSync(folder, { recursive: true });
});

const messages = [{ role: 'user' as const, content: 'How is it?' }];
const ask = (script: string, options: Partial<GenerateOptions> = {}): GenerateOptions => ({
  messages,
  tools: [WEATHER, TIME],
  templateOptions: { script },
  ...options,
});

async function eventsOf(options: GenerateOptions): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = [];
  for await (const event of model.generate(options)) events.push(event);
  return events;
}

test('says what it understands', () => {
  expect(model.info.chat).toEqual({ dialect: 'hermes', takesTools: true, reasons: true });
});

describe('an answer with reasoning, text and two calls', () => {
  test('is taken apart', async () => {
    const result = await model.generate(ask('both'));
    expect(result).toMatchObject({
      reasoning: 'They want Köln 🙂 weather.',
      text: 'I will look.',
      finishReason: 'tool-calls',
      warnings: [],
    });
    expect(result.toolCalls.map(({ name, arguments: given }) => [name, given])).toEqual([
      ['get_weather', '{"city": "Köln 🙂"}'],
      ['get_time', '{}'],
    ]);
    expect(new Set(result.toolCalls.map(({ id }) => id)).size).toBe(2);
    expect(result.usage.reasoningTokens).toBeGreaterThan(3);
    expect(result.usage.completionTokens).toBe(result.tokens.length);
  });

  test('streams in order, and the pieces are the whole', async () => {
    const events = await eventsOf(ask('both'));
    const result = await model.generate(ask('both'));
    const joined = (type: 'text' | 'reasoning') =>
      events.map((event) => (event.type === type ? event.text : '')).join('');
    expect(joined('text')).toBe(result.text);
    expect(joined('reasoning')).toBe(result.reasoning);
    const calls = events.flatMap((event) => (event.type === 'tool-call' ? [event.call] : []));
    for (const { id, name, arguments: whole } of calls) {
      const inputs = events.filter((event) => event.type === 'tool-input' && event.id === id);
      const deltas = inputs.map((event) => (event.type === 'tool-input' ? event.delta : ''));
      expect(deltas.join('')).toBe(whole);
      expect(new Set(inputs.map((event) => (event.type === 'tool-input' ? event.name : '')))).toEqual(
        new Set([name]),
      );
    }
    expect(calls).toHaveLength(2);
    const tokens = events.flatMap((event) => ('tokens' in event ? event.tokens : []));
    expect(tokens).toEqual(result.tokens);
    const seen = events.map(({ type }) => type).filter((type) => type !== 'text' && type !== 'finish');
    expect(seen.filter((type, i) => type !== seen[i - 1])).toEqual([
      'reasoning',
      'tool-input',
      'tool-call',
      'tool-input',
      'tool-call',
    ]);
    expect(events.at(-1)).toMatchObject({ type: 'finish', finishReason: 'tool-calls' });
  });

  test('ends after one call when calls are not to be parallel', async () => {
    const result = await model.generate(ask('both', { parallelToolCalls: false }));
    expect(result.toolCalls.map(({ name }) => name)).toEqual(['get_weather']);
    expect(result.finishReason).toBe('tool-calls');
  });

  test('is reasoning and text when no tools are offered', async () => {
    for (const options of [{ tools: [] }, { toolChoice: 'none' as const }]) {
      const result = await model.generate(ask('both', options));
      expect(result.toolCalls).toEqual([]);
      expect(result.reasoning).toBe('They want Köln 🙂 weather.');
      expect(result.text).toContain('"get_weather"');
      expect(result.finishReason).toBe('stop');
    }
  });
});

test('a call that is none comes as text, with a warning', async () => {
  const result = await model.generate(ask('broken'));
  expect(result.text).toBe(`Hm.${BROKEN}`);
  expect(result.toolCalls).toEqual([]);
  expect(result.warnings).toMatchObject([{ code: 'malformed_tool_call' }]);
  expect(result.finishReason).toBe('stop');
});

test('a call that the limit cuts off comes as text, with a warning', async () => {
  const whole = await model.generate(ask('cut'));
  const result = await model.generate(ask('cut', { maxTokens: whole.tokens.length - 1 }));
  expect(result.text).toBe('Well<tool_call>{"name": "get_weather", "arguments": {"city": "Par');
  expect(result.warnings).toMatchObject([{ code: 'incomplete_tool_call' }]);
  expect(result.finishReason).toBe('length');
});

test('stop strings count in the answer, not in the reasoning', async () => {
  const result = await model.generate(ask('stops', { stop: 'STOP' }));
  expect(result).toMatchObject({ reasoning: 'thought STOP here', text: 'one ', stopString: 'STOP' });
});

test('control tokens that mark calls are seen, and are no text', async () => {
  const mistral = await engine.loadModel({ source: folder, chatDialect: 'mistral' });
  const result = await mistral.generate(ask('mistral'));
  expect(result).toMatchObject({ text: 'Soon.', toolCalls: [{ name: 'get_time', arguments: '{ }' }] });
  expect(result.toolCalls[0]?.id).toMatch(/^[A-Za-z0-9]{9}$/);
  const unoffered = await mistral.generate(ask('mistral', { tools: [] }));
  expect(unoffered.text).toBe('Soon.get_time{ }');
});

describe('a call that is asked for', () => {
  let forcedFolder: string;
  let forced: Model;

  beforeAll(async () => {
    // A checkpoint of its own, so that the head of the call ends in the token that the script follows.
    const scripts = { '"arguments": ': ['{"city": "Ulm"}}</tool_call>'] };
    forcedFolder = writeScriptedCheckpoint({ template: TEMPLATE, scripts });
    forced = await engine.loadModel({ source: forcedFolder });
  });
  afterAll(() => rmSync(forcedFolder, { recursive: true }));

  test('begins the answer', async () => {
    const result = await forced.generate({
      messages,
      tools: [WEATHER, TIME],
      toolChoice: { name: 'get_weather' },
    });
    expect(result.toolCalls).toMatchObject([{ name: 'get_weather', arguments: '{"city": "Ulm"}' }]);
    expect(result).toMatchObject({ text: '', finishReason: 'tool-calls' });
  });

  test('names the tool when only one is required, and streams its name before any token', async () => {
    const run = forced.generate({ messages, tools: [WEATHER], toolChoice: 'required' });
    const events: GenerateEvent[] = [];
    for await (const event of run) events.push(event);
    expect(events[0]).toMatchObject({ type: 'tool-input', name: 'get_weather' });
    expect((await run).toolCalls).toHaveLength(1);
  });

  test('is refused where nothing makes the model begin one', async () => {
    const glm = await engine.loadModel({ source: forcedFolder, chatDialect: 'glm4' });
    const run = glm.generate({ messages, tools: [WEATHER, TIME], toolChoice: 'required' });
    await expect(run).rejects.toMatchObject({
      code: 'invalid_parameter',
      details: { path: 'toolChoice', dialect: 'glm4' },
    });
  });
});

describe('what the model sees', () => {
  test('are tools in the template’s form, calls with arguments as objects, and results', async () => {
    const prompt = await model.renderPrompt(
      [
        ...messages,
        {
          role: 'assistant',
          content: null,
          toolCalls: [{ id: 'a', name: 'get_weather', arguments: '{"city":"Ulm"}' }],
        },
        { role: 'tool', content: '3°', toolCallId: 'a' },
      ],
      { script: 'both' },
      [TIME],
    );
    expect(prompt).toBe(
      '{"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}\n' +
        '<|user|>\nHow is it?<|assistant|>\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ulm"}}\n' +
        '</tool_call><|tool|>\n3°<|both|>',
    );
  });

  test('counts', async () => {
    const without = await model.countTokens({ messages });
    expect(await model.countTokens({ messages, tools: [WEATHER] })).toBeGreaterThan(without + 20);
  });
});

test('a model whose template has no place for tools refuses them', async () => {
  const plain = await engine.loadModel({
    source: folder,
    chatTemplate: '{% for message in messages %}{{ message.content }}{% endfor %}',
  });
  await expect(plain.generate({ messages, tools: [TIME] })).rejects.toMatchObject({
    code: 'invalid_parameter',
    details: { path: 'tools' },
  });
  const none = await engine.loadModel({ source: folder, chatDialect: 'none' });
  await expect(none.generate({ messages, tools: [TIME] })).rejects.toMatchObject({
    message: expect.stringContaining('not known how'),
  });
});

test('strict schemas are not enforced, and the answer says so', async () => {
  const result = await model.generate(ask('broken', { tools: [{ ...TIME, strict: true }] }));
  expect(result.warnings[0]).toMatchObject({ code: 'strict_not_enforced' });
});

describe('a budget for reasoning', () => {
  const thought = 'one two three four five six seven eight nine ten';
  let budgetFolder: string;
  let thinker: Model;

  beforeAll(async () => {
    const scripts = {
      '<|think|>': [`<think>\n${thought}</think>Long answer.`],
      '\n</think>\n\n': ['Short answer.'],
    };
    budgetFolder = writeScriptedCheckpoint({ template: TEMPLATE, scripts });
    thinker = await engine.loadModel({ source: budgetFolder, maxConcurrency: 1, maxQueuedRequests: 1 });
  });
  afterAll(() => rmSync(budgetFolder, { recursive: true }));

  const think = (options: Partial<GenerateOptions>): GenerateOptions => ({
    messages,
    templateOptions: { script: 'think' },
    ...options,
  });

  test('ends it after that many tokens, and the answer follows', async () => {
    const whole = await thinker.generate(think({}));
    expect(whole).toMatchObject({ reasoning: thought, text: 'Long answer.' });
    for (const reasoningBudget of [1, 5]) {
      const result = await thinker.generate(think({ reasoningBudget }));
      expect(result).toMatchObject({ text: 'Short answer.', finishReason: 'stop' });
      expect(result.usage.reasoningTokens).toBe(reasoningBudget);
      expect(thought.startsWith(result.reasoning)).toBe(true);
      expect(result.tokens.length).toBe(result.usage.completionTokens);
    }
    const roomy = await thinker.generate(think({ reasoningBudget: 1000 }));
    expect(roomy).toMatchObject({ reasoning: whole.reasoning, text: whole.text });
  });

  test('survives a queue that is full as the reasoning ends', async () => {
    const run = thinker.generate(think({ reasoningBudget: 4 }));
    let numRefused = 0;
    const others: Promise<unknown>[] = [];
    // Whenever something is heard of the answer, others take the places that are left.
    for await (const event of run) {
      if (event.type !== 'reasoning' && event.type !== 'text') continue;
      for (let i = 0; i < 2; i += 1) {
        const other = thinker.generate({ tokens: [5], maxTokens: 40, ignoreEos: true }).result;
        others.push(other.catch(() => (numRefused += 1)));
      }
    }
    expect(await run).toMatchObject({ text: 'Short answer.' });
    await Promise.all(others);
    expect(numRefused).toBeGreaterThan(0);
  });

  test('leaves nothing behind when the answer is aborted as it ends', async () => {
    for (const reasoningBudget of [1, 2, 3]) {
      const controller = new AbortController();
      const run = thinker.generate(think({ reasoningBudget, signal: controller.signal }));
      const reading = (async () => {
        for await (const event of run) if (event.type === 'reasoning') controller.abort();
      })();
      // The answer may be complete before its first event is read.
      await reading.catch((error: unknown) => expect(error).toMatchObject({ code: 'aborted' }));
    }
    await expectDrained(thinker);
  });

  test('counts in the limit of the whole', async () => {
    const free = await thinker.generate(think({ reasoningBudget: 3 }));
    const result = await thinker.generate(think({ reasoningBudget: 3, maxTokens: free.tokens.length - 1 }));
    expect(result.finishReason).toBe('length');
    expect('Short answer.'.startsWith(result.text)).toBe(true);
    expect(result.tokens.length).toBe(free.tokens.length - 1);
  });

  test('is refused for a model without tags, and for raw prompts', async () => {
    await expect(thinker.generate({ prompt: 'x', reasoningBudget: 3 })).rejects.toMatchObject({
      details: { path: 'reasoningBudget' },
    });
    const plain = await engine.loadModel({ source: budgetFolder, chatTemplate: '{{ messages[0].content }}' });
    await expect(plain.generate({ messages, reasoningBudget: 3 })).rejects.toMatchObject({
      code: 'invalid_parameter',
      details: { path: 'reasoningBudget' },
    });
  });
});
