import { describe, expect, test } from 'vitest';
import { DEFAULT_LIMITS } from '../../../lib/server/options';
import { chatEndpoint, completionEndpoint } from '../../../lib/server/routes/endpoints';
import { seedOfChoice } from '../../../lib/server/wire/sampling';

const chat = chatEndpoint(DEFAULT_LIMITS);
const completion = completionEndpoint(DEFAULT_LIMITS);
const messages = [{ role: 'user', content: 'secret prompt' }];
const chatWith = (fields: object) => () => chat.parse({ model: 'm', messages, ...fields });
const completionWith = (fields: object) => () =>
  completion.parse({ model: 'm', prompt: 'secret prompt', ...fields });

/** The refusal of a body, checked to hold no prompt. */
function refusalOf(parse: () => unknown): {
  param: unknown;
  allowed: unknown;
  message: string;
  refusal: unknown;
} {
  try {
    parse();
  } catch (error) {
    const { details, message } = error as { details: Record<string, unknown>; message: string };
    expect(JSON.stringify([details, message])).not.toContain('secret');
    return { param: details.param, allowed: details.allowed, message, refusal: details.refusal };
  }
  throw new Error('the body was accepted');
}

describe('ranges', () => {
  const table: readonly [string, readonly unknown[], readonly unknown[]][] = [
    // field, accepted, refused
    ['temperature', [0, -0, 0.5, 100], [-0.001, 100.001, 1e308, '1', true, [1]]],
    ['top_p', [0.0001, 1], [0, 1.0001, -1]],
    ['top_k', [0, 1, 2 ** 31 - 1], [-1, 1.5, 2 ** 31]],
    ['min_p', [0, 1], [-0.1, 1.1]],
    ['repetition_penalty', [0.1, 10], [0, 10.1]],
    ['presence_penalty', [-2, 2], [-2.1, 2.1]],
    ['frequency_penalty', [-2, 2], [-2.1, 2.1]],
    ['seed', [0, 2 ** 53 - 1], [-1, 2 ** 53, 0.5, '5']],
    ['n', [1, 7, 8], [0, 9, 128, 1.5]],
    ['max_tokens', [1, 2 ** 31 - 1], [0, -1, 2 ** 31, 1.5]],
    [
      'stop',
      ['a', ['a'], [], Array(16).fill('a'), 'x'.repeat(256), 'é'.repeat(128)],
      ['', [''], Array(17).fill('a'), 'x'.repeat(257), 'é'.repeat(129), 5, [5]],
    ],
    [
      'logit_bias',
      [{}, { 5: 100, 6: -100 }, Object.fromEntries(Array.from({ length: 1_024 }, (_, i) => [i, 1]))],
      [
        { a: 1 },
        { '-1': 1 },
        { 5: 101 },
        { 5: '1' },
        [1],
        Object.fromEntries(Array.from({ length: 1_025 }, (_, i) => [i, 1])),
      ],
    ],
    ['stream', [true, false], ['true', 1]],
    ['user', ['', 'ann'], [5]],
    ['metadata', [{}, { a: 'b' }], [{ a: 1 }, 'a']],
    ['cache_salt', ['a', 'x'.repeat(256)], ['', 'x'.repeat(257)]],
  ];
  for (const [field, accepted, refused] of table) {
    test(`of ${field} hold on both endpoints`, () => {
      for (const withFields of [chatWith, completionWith]) {
        for (const value of accepted)
          expect(withFields({ [field]: value }), JSON.stringify(value)).not.toThrow();
        for (const value of refused) {
          const { param, allowed } = refusalOf(withFields({ [field]: value }));
          expect(String(param).split(/[[.]/)[0]).toBe(field);
          expect(allowed).toBeTruthy();
        }
      }
    });
  }

  test('of logprobs differ between the endpoints', () => {
    for (const top of [0, 19, 20]) {
      expect(chatWith({ logprobs: true, top_logprobs: top })).not.toThrow();
      expect(completionWith({ logprobs: top })).not.toThrow();
    }
    expect(refusalOf(chatWith({ logprobs: true, top_logprobs: 21 })).param).toBe('top_logprobs');
    expect(refusalOf(completionWith({ logprobs: 21 })).param).toBe('logprobs');
    expect(refusalOf(completionWith({ logprobs: true })).param).toBe('logprobs');
    expect(refusalOf(chatWith({ logprobs: 5 })).param).toBe('logprobs');
    expect(refusalOf(chatWith({ top_logprobs: 1 })).message).toMatch(/needs logprobs: true/);
  });

  test('of messages end at 4,096', () => {
    expect(chatWith({ messages: Array(4_096).fill(messages[0]) })).not.toThrow();
    expect(refusalOf(chatWith({ messages: Array(4_097).fill(messages[0]) }))).toMatchObject({
      param: 'messages',
      allowed: 'an array of 1..4096 messages',
    });
  });

  test('of prompts end at 32', () => {
    expect(completionWith({ prompt: Array(32).fill('a') })).not.toThrow();
    expect(refusalOf(completionWith({ prompt: Array(33).fill('a') })).param).toBe('prompt');
    for (const prompt of [[], [[]], [1.5], [-1], [1, 'a'], 5, {}])
      expect(String(refusalOf(completionWith({ prompt })).param)).toMatch(/^prompt/);
  });
});

describe('what is missing or of the wrong kind', () => {
  test('is named', () => {
    expect(refusalOf(() => chat.parse({ messages })).param).toBe('model');
    expect(refusalOf(() => chat.parse({ model: 'm' })).param).toBe('messages');
    expect(refusalOf(() => completion.parse({ model: 'm' })).param).toBe('prompt');
    expect(refusalOf(chatWith({ messages: [] })).param).toBe('messages');
    expect(refusalOf(chatWith({ messages: [...messages, { content: 'a' }] })).param).toBe('messages[1].role');
    expect(refusalOf(chatWith({ messages: [{ role: 'user' }] })).param).toBe('messages[0].content');
    expect(refusalOf(chatWith({ messages: [{ role: 'king', content: 'a' }] }))).toMatchObject({
      param: 'messages[0].role',
      allowed: 'one of system, developer, user, assistant, tool',
    });
    expect(refusalOf(chatWith({ messages: [{ role: 'user', content: [{ type: 'text' }] }] })).param).toBe(
      'messages[0].content[0].text',
    );
    expect(refusalOf(chatWith({ messages: ['secret'] })).param).toBe('messages[0]');
    for (const body of [[], 'secret', 5, null, true])
      expect(refusalOf(() => chat.parse(body)).message).toMatch(/^expected the body to be a JSON object/);
  });
});

describe('fields that are not served', () => {
  const refused: readonly [string, unknown][] = [
    ['functions', [{}]],
    ['function_call', 'auto'],
    ['response_format', { type: 'json_object' }],
    ['response_format', { type: 'json_schema', json_schema: {} }],
    ['modalities', ['text', 'audio']],
    ['audio', {}],
    ['prediction', {}],
    ['web_search_options', {}],
    ['reasoning_effort', 'low'],
    ['store', true],
    ['service_tier', 'flex'],
    ['never_heard_of', 1],
    ['constructor', 1],
    ['toString', 1],
  ];
  for (const [field, value] of refused) {
    test(`${field}: ${JSON.stringify(value)} is refused by name`, () => {
      expect(refusalOf(chatWith({ [field]: value }))).toMatchObject({
        param: field,
        refusal: 'unsupported_parameter',
      });
    });
  }

  test('on completions are echo, best_of and suffix', () => {
    for (const fields of [{ echo: true }, { best_of: 2 }, { suffix: 'a' }])
      expect(refusalOf(completionWith(fields)).param).toBe(Object.keys(fields)[0]);
    expect(completionWith({ echo: false, best_of: 1, suffix: '' })).not.toThrow();
  });

  test('in messages are functions and media, by their place', () => {
    const cases: readonly [object, string][] = [
      [{ role: 'function', content: 'a', name: 'x' }, 'messages[0].role'],
      [{ role: 'assistant', content: 'a', function_call: {} }, 'messages[0].function_call'],
      [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }, 'messages[0].content[0].type'],
      [{ role: 'user', content: 'a', weight: 1 }, 'messages[0].weight'],
    ];
    for (const [message, param] of cases)
      expect(refusalOf(chatWith({ messages: [message] }))).toMatchObject({
        param,
        refusal: 'unsupported_parameter',
      });
  });

  test('pass when they ask for nothing', () => {
    const harmless = {
      tools: [],
      tool_choice: 'none',
      response_format: { type: 'text' },
      modalities: ['text'],
      parallel_tool_calls: true,
      store: false,
      service_tier: 'auto',
      user: 'ann',
      metadata: { a: 'b' },
      safety_identifier: 'x',
      prompt_cache_key: 'x',
    };
    expect(chatWith(harmless)).not.toThrow();
  });

  test('and any optional field may be null', () => {
    const nulls = [
      'temperature',
      'n',
      'stop',
      'seed',
      'tools',
      'response_format',
      'stream',
      'stream_options',
      'max_tokens',
      'never_heard_of',
    ];
    expect(chatWith(Object.fromEntries(nulls.map((name) => [name, null])))).not.toThrow();
    expect(
      chatWith({ messages: [{ role: 'assistant', content: 'a', refusal: null, tool_calls: null }] }),
    ).not.toThrow();
  });
});

test('fields that contradict each other are refused', () => {
  expect(refusalOf(chatWith({ stream_options: { include_usage: true } })).param).toBe('stream_options');
  expect(refusalOf(completionWith({ stream_options: {} })).param).toBe('stream_options');
  expect(refusalOf(chatWith({ max_tokens: 1, max_completion_tokens: 2 })).param).toBe(
    'max_completion_tokens',
  );
  expect(chatWith({ max_tokens: 2, max_completion_tokens: 2 })).not.toThrow();
});

test('answer i draws from seed + i, wrapping at the largest seed', () => {
  expect(seedOfChoice(undefined, 3)).toEqual({});
  expect(seedOfChoice(5, 0)).toEqual({ seed: 5 });
  expect(seedOfChoice(5, 3)).toEqual({ seed: 8 });
  expect(seedOfChoice(Number.MAX_SAFE_INTEGER, 0)).toEqual({ seed: Number.MAX_SAFE_INTEGER });
  expect(seedOfChoice(Number.MAX_SAFE_INTEGER, 1)).toEqual({ seed: 0 });
  expect(seedOfChoice(Number.MAX_SAFE_INTEGER - 1, 3)).toEqual({ seed: 1 });
});
