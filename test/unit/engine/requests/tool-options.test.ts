import { describe, expect, test } from 'vitest';
import {
  type ModelFacts,
  type ParsedGenerate,
  parseGenerate,
} from '../../../../lib/engine/requests/generate-options';
import { toTemplateMessage } from '../../../../lib/engine/requests/message-options';
import { toTemplateTool } from '../../../../lib/engine/requests/tool-options';
import type { GenerateOptions } from '../../../../lib/engine/types';
import { AutoglmError } from '../../../../lib/errors';

const facts: ModelFacts = {
  vocabSize: 100,
  contextLength: 32,
  hasChatTemplate: true,
  chat: { dialect: 'hermes', think: null, toolTemplate: '{{ tools }}' },
  generationDefaults: {},
  speculation: null,
  hasDraftModel: false,
  maxTextLength: 1000,
};
const messages = [{ role: 'user', content: 'a' }];
const tools = [{ name: 'f' }, { name: 'g' }];

const parse = (options: object, overrides: Partial<ModelFacts> = {}): ParsedGenerate =>
  parseGenerate({ messages, ...options } as GenerateOptions, { ...facts, ...overrides });

function failure(options: object, overrides: Partial<ModelFacts> = {}): AutoglmError {
  try {
    parse(options, overrides);
  } catch (error) {
    if (AutoglmError.is(error)) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

function nested(levels: number): object {
  let value: object = {};
  for (let i = 0; i < levels; i += 1) value = { a: value };
  return value;
}

describe('tools', () => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;

  test.each([
    ['no array', { tools: {} }, 'tools'],
    ['more than 128', { tools: Array.from({ length: 129 }, (_, i) => ({ name: `f${i}` })) }, 'tools'],
    ['no object', { tools: ['f'] }, 'tools[0]'],
    ['no name', { tools: [{}] }, 'tools[0].name'],
    ['a name with a space', { tools: [{ name: 'a b' }] }, 'tools[0].name'],
    ['a name of 65 characters', { tools: [{ name: 'a'.repeat(65) }] }, 'tools[0].name'],
    ['a name in other letters', { tools: [{ name: 'wétter' }] }, 'tools[0].name'],
    ['two of one name', { tools: [...tools, { name: 'f' }] }, 'tools[2].name'],
    ['an unknown key', { tools: [{ name: 'f', schema: {} }] }, 'tools[0].schema'],
    ['a schema that is no object', { tools: [{ name: 'f', parameters: [] }] }, 'tools[0].parameters'],
    [
      'a function in the schema',
      { tools: [{ name: 'f', parameters: { a: () => 1 } }] },
      'tools[0].parameters.a',
    ],
    [
      'NaN in the schema',
      { tools: [{ name: 'f', parameters: { a: [Number.NaN] } }] },
      'tools[0].parameters.a[0]',
    ],
    ['half a character', { tools: [{ name: 'f', description: '\ud83d' }] }, 'tools[0].description'],
    ['too much text', { tools: [{ name: 'f', description: 'x'.repeat(1_048_577) }] }, 'tools'],
  ])('%s is refused by path', (_, options, path) => {
    expect(failure(options)).toMatchObject({ code: 'invalid_parameter', details: { path } });
  });

  test('a schema may be 32 levels deep, not deeper, and not endless', () => {
    expect(() => parse({ tools: [{ name: 'f', parameters: nested(32) }] })).not.toThrow();
    for (const parameters of [nested(33), nested(100_000), circular]) {
      const error = failure({ tools: [{ name: 'f', parameters }] });
      expect(error.details.path).toMatch(/^tools\[0\]\.parameters\./);
      expect(error.message).toContain('32');
    }
  });

  test('are copied, and templates see them as OpenAI has them', () => {
    const parameters = { type: 'object', properties: { a: {} } };
    const { input } = parse({ tools: [{ name: 'f', description: 'd', parameters }] });
    parameters.type = 'changed';
    const [tool] = input.kind === 'messages' ? input.tools.tools : [];
    if (tool === undefined) throw new Error('no tool');
    expect(JSON.stringify(toTemplateTool(tool))).toBe(
      '{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{}}}}}',
    );
  });

  test('need messages, a template that takes them and a known dialect', () => {
    const noMessages = { messages: undefined, tools };
    expect(failure({ ...noMessages, prompt: 'a' }).message).toContain('tools needs messages');
    expect(failure({ ...noMessages, tokens: [1] }).message).toContain('tools needs messages');
    const chat = (fields: object) => ({ chat: { ...facts.chat, ...fields } });
    expect(failure({ tools }, chat({ toolTemplate: null })).message).toContain('no place for them');
    expect(failure({ tools }, chat({ dialect: null })).message).toContain('not known how');
    expect(() => parse({ tools: [] }, chat({ toolTemplate: null, dialect: null }))).not.toThrow();
    const none = { tools, toolChoice: 'none' };
    expect(() => parse(none, chat({ toolTemplate: null, dialect: null }))).not.toThrow();
  });
});

describe('the choice of a tool', () => {
  const forcedBy = (options: object) => {
    const { input } = parse({ tools, ...options });
    return input.kind === 'messages' ? input.tools : null;
  };

  test('is auto, none, required or a name', () => {
    expect(forcedBy({})).toMatchObject({ forced: null, isParallel: true });
    expect(forcedBy({ toolChoice: 'auto' })).toMatchObject({ forced: null });
    expect(forcedBy({ toolChoice: 'none' })).toMatchObject({ forced: null, tools: [] });
    expect(forcedBy({ toolChoice: 'required' })).toMatchObject({ forced: 'any' });
    expect(forcedBy({ toolChoice: 'required', tools: [{ name: 'f' }] })).toMatchObject({
      forced: { name: 'f' },
    });
    expect(forcedBy({ toolChoice: { name: 'g' } })).toMatchObject({ forced: { name: 'g' } });
    expect(forcedBy({ parallelToolCalls: false })).toMatchObject({ isParallel: false });
  });

  test.each([
    ['another word', { tools, toolChoice: 'any' }, 'toolChoice'],
    ['a number', { tools, toolChoice: 1 }, 'toolChoice'],
    ['a name that is not offered', { tools, toolChoice: { name: 'h' } }, 'toolChoice.name'],
    ['no name', { tools, toolChoice: {} }, 'toolChoice.name'],
    ['an unknown key', { tools, toolChoice: { type: 'function' } }, 'toolChoice.type'],
    ['required without tools', { toolChoice: 'required' }, 'toolChoice'],
    ['a name without tools', { tools: [], toolChoice: { name: 'f' } }, 'toolChoice'],
  ])('%s is refused', (_, options, path) => {
    expect(failure(options)).toMatchObject({ code: 'invalid_parameter', details: { path } });
  });
});

describe('messages with calls and results', () => {
  const call = (fields: object = {}) => ({ id: 'a', name: 'f', arguments: '{"x": 1}', ...fields });
  const called = (...calls: object[]) => ({ role: 'assistant', content: null, toolCalls: calls });
  const result = (toolCallId?: string) => ({
    role: 'tool',
    content: 'r',
    ...(toolCallId ? { toolCallId } : {}),
  });

  test('reach the template with arguments as objects and without what was not given', () => {
    const { input } = parse({
      messages: [
        ...messages,
        {
          role: 'assistant',
          content: 'look',
          reasoning: 'hm',
          toolCalls: [call(), call({ id: 'b', arguments: {} })],
        },
        result('a'),
        { role: 'tool', content: 'r2', toolCallId: 'b', name: 'f' },
      ],
    });
    const list = input.kind === 'messages' ? input.messages.map(toTemplateMessage) : [];
    const spelled = (id: string, given: object) => ({
      id,
      type: 'function',
      function: { name: 'f', arguments: given },
    });
    expect(list).toEqual([
      { role: 'user', content: 'a' },
      {
        role: 'assistant',
        content: 'look',
        reasoning_content: 'hm',
        tool_calls: [spelled('a', { x: 1 }), spelled('b', {})],
      },
      { role: 'tool', content: 'r', tool_call_id: 'a' },
      { role: 'tool', content: 'r2', name: 'f', tool_call_id: 'b' },
    ]);
  });

  test('may leave content and ids out', () => {
    const list = [
      { role: 'assistant', toolCalls: [{ name: 'f', arguments: '' }] },
      { role: 'tool', content: '' },
    ];
    expect(() => parse({ messages: list })).not.toThrow();
  });

  test.each([
    ['no content and no calls', [{ role: 'assistant' }], 'messages[0].content'],
    ['null for content of a user', [{ role: 'user', content: null }], 'messages[0].content'],
    ['calls of a user', [{ role: 'user', content: 'a', toolCalls: [call()] }], 'messages[0].toolCalls'],
    ['thoughts of a user', [{ role: 'user', content: 'a', reasoning: 'x' }], 'messages[0].reasoning'],
    ['a call id of a user', [{ role: 'user', content: 'a', toolCallId: 'x' }], 'messages[0].toolCallId'],
    ['a call without a name', [called(call({ name: undefined }))], 'messages[0].toolCalls[0].name'],
    ['arguments that are no JSON', [called(call({ arguments: '{' }))], 'messages[0].toolCalls[0].arguments'],
    ['arguments that are a list', [called(call({ arguments: [] }))], 'messages[0].toolCalls[0].arguments'],
    ['a result before any call', [result('a')], 'messages[0]'],
    ['a result after a user', [called(call()), messages[0], result('a')], 'messages[2]'],
    ['a result of another call', [called(call()), result('b')], 'messages[1].toolCallId'],
  ])('%s is refused', (_, list, path) => {
    expect(failure({ messages: list })).toMatchObject({ code: 'invalid_parameter', details: { path } });
  });

  test('arguments that are too deep are refused', () => {
    const deep = JSON.stringify(nested(33));
    const { path } = failure({ messages: [called(call({ arguments: deep }))] }).details;
    expect(path).toMatch(/^messages\[0\]\.toolCalls\[0\]\.arguments\.a/);
  });
});
