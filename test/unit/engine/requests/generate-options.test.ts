import { describe, expect, test } from 'vitest';
import { type ModelFacts, parseGenerate } from '../../../../lib/engine/requests/generate-options';
import type { GenerateOptions } from '../../../../lib/engine/types';
import { AutoglmError } from '../../../../lib/errors';

const facts: ModelFacts = {
  vocabSize: 100,
  contextLength: 32,
  hasChatTemplate: true,
  chat: { dialect: 'hermes', think: null, toolTemplate: '{{ tools }}' },
  generationDefaults: { temperature: 0.3, topK: 20 },
  speculation: null,
  hasDraftModel: false,
  maxTextLength: 1000,
};

function failure(input: unknown, overrides: Partial<ModelFacts> = {}): AutoglmError {
  try {
    parseGenerate(input as GenerateOptions, { ...facts, ...overrides });
  } catch (error) {
    if (AutoglmError.is(error)) return error;
    throw error;
  }
  throw new Error(`${JSON.stringify(input)} was accepted`);
}

describe('options of generate', () => {
  test("take the model's own defaults, and the caller's wishes over them", () => {
    const { sampling } = parseGenerate({ prompt: 'a', temperature: 0, seed: 5 }, facts);
    expect(sampling).toEqual({
      temperature: 0,
      topK: 20,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      seed: 5,
    });
    expect(
      parseGenerate({ prompt: 'a', temperature: undefined } as unknown as GenerateOptions, facts).sampling
        .temperature,
    ).toBe(0.3);
  });

  test('draw a seed of their own when none is given', () => {
    const seeds = new Set(
      Array.from({ length: 20 }, () => parseGenerate({ prompt: 'a' }, facts).sampling.seed),
    );
    expect(seeds.size).toBe(20);
    for (const seed of seeds) expect(Number.isSafeInteger(seed)).toBe(true);
  });

  test('text alone is a message to a chat model, and a raw prompt to one without a template', () => {
    expect(parseGenerate('hi', facts).input).toEqual({
      kind: 'messages',
      messages: [
        { role: 'user', content: 'hi', name: null, reasoning: null, toolCalls: [], toolCallId: null },
      ],
      tools: { tools: [], forced: null, isParallel: true },
      templateOptions: {},
    });
    expect(parseGenerate('hi', { ...facts, hasChatTemplate: false }).input).toEqual({
      kind: 'prompt',
      text: 'hi',
      parseSpecialTokens: false,
    });
  });

  test('token ids are copied and checked', () => {
    const tokens = [1, 2, 99];
    const { input } = parseGenerate({ tokens }, facts);
    tokens[0] = 50;
    expect(input).toEqual({ kind: 'tokens', tokens: Int32Array.of(1, 2, 99) });
    expect(failure({ tokens: [1, 100] }).message).toBe(
      'expected tokens[1] to be a token id in 0..99, got 100',
    );
    expect(failure({ tokens: [1, -1] }).message).toMatch(/tokens\[1\]/);
    expect(failure({ tokens: [1.5] }).message).toMatch(/tokens\[0\]/);
    expect(failure({ tokens: ['1'] }).message).toMatch(/tokens\[0\]/);
    expect(failure({ tokens: new Array(33).fill(0) })).toMatchObject({
      code: 'context_length_exceeded',
      details: { promptTokens: 33, contextLength: 32 },
    });
  });

  test('biases become parallel arrays', () => {
    const { biasTokens, biasValues } = parseGenerate({ prompt: 'a', logitBias: { 7: -100, 3: 1.5 } }, facts);
    expect([...biasTokens]).toEqual([3, 7]);
    expect([...biasValues]).toEqual([1.5, -100]);
  });

  // Each limit at its ends, and just beyond them.
  test.each<[string, readonly unknown[], readonly unknown[]]>([
    ['temperature', [0, 100, 0.5], [-0.1, 100.1, Number.NaN, '1', null]],
    ['topK', [0, 2 ** 31 - 1], [-1, 2 ** 31, 1.5]],
    ['topP', [0.001, 1], [0, 1.001, -1]],
    ['minP', [0, 1], [-0.1, 1.1]],
    ['repetitionPenalty', [0.01, 10], [0, 10.1]],
    ['presencePenalty', [-2, 2], [-2.1, 2.1]],
    ['frequencyPenalty', [-2, 2], [-2.1, 2.1, Number.POSITIVE_INFINITY]],
    ['seed', [0, 2 ** 53 - 1], [-1, 2 ** 53, 0.5, 1e308]],
    ['maxTokens', [1, 2 ** 31 - 1], [0, -1, 2 ** 31, 1.5, '5']],
    ['logprobs', [0, 20], [-1, 21, true]],
    ['priority', [-100, 100], [-101, 101]],
    ['timeout', [0.5, 1e9], [0, -1]],
    [
      'stop',
      ['x', ['a', 'b'], Array(16).fill('s'), 'y'.repeat(256), []],
      ['', ['a', ''], Array(17).fill('s'), 'ü'.repeat(129), 'y'.repeat(257), [1], '\ud800'],
    ],
    ['cacheSalt', ['', 'tenant'], ['x'.repeat(257), 1]],
    ['onAbort', ['error', 'partial'], ['throw', '']],
    ['ignoreEos', [true, false], [0, 'true']],
    ['signal', [new AbortController().signal], [{}, 'abort']],
    [
      'logitBias',
      [{}, { 0: 100, 99: -100 }],
      [
        { 100: 1 },
        { '-1': 1 },
        { a: 1 },
        { '01': 1 },
        { 5: 101 },
        { 5: '1' },
        [],
        Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [i, 1])),
      ],
    ],
  ])('%s is taken within its range and refused outside, by name', (name, good, bad) => {
    for (const value of good) parseGenerate({ prompt: 'a', [name]: value }, facts);
    for (const value of bad) {
      const error = failure({ prompt: 'a', [name]: value });
      expect(error.code).toBe('invalid_parameter');
      expect(error.message).toContain(name);
      expect(error.details).toHaveProperty('path');
      expect(error.details).toHaveProperty('allowed');
    }
  });

  test.each<[string, unknown, RegExp]>([
    [
      'an unknown option',
      { prompt: 'a', temprature: 1 },
      /temprature is not a known option; known are prompt/,
    ],
    [
      'an option of the prototype',
      JSON.parse('{"prompt":"a","__proto__":{"x":1}}'),
      /__proto__ is not a known option/,
    ],
    ['no prompt', {}, /exactly one of prompt, messages and tokens, got none/],
    ['two prompts', { prompt: 'a', tokens: [1] }, /got prompt and tokens/],
    ['an empty prompt', { prompt: '' }, /expected prompt to be a string that is not empty/],
    ['an empty string', '', /expected prompt/],
    ['no messages', { messages: [] }, /expected messages/],
    ['no tokens', { tokens: [] }, /expected tokens/],
    [
      'a message without a role',
      { messages: [{ content: 'a' }] },
      /expected messages\[0\]\.role to be one of/,
    ],
    [
      'an unknown role',
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'boss', content: 'a' },
        ],
      },
      /messages\[1\]\.role.*'boss'/,
    ],
    ['a message without content', { messages: [{ role: 'user' }] }, /expected messages\[0\]\.content/],
    [
      'an unknown field of a message',
      { messages: [{ role: 'user', content: 'a', image: 1 }] },
      /messages\[0\]\.image is not a known option/,
    ],
    [
      'a lone surrogate in a prompt',
      { prompt: 'a\ud800b' },
      /expected prompt to be text without lone surrogates/,
    ],
    [
      'a lone surrogate in a message',
      { messages: [{ role: 'user', content: '\udc00' }] },
      /messages\[0\]\.content/,
    ],
    ['something that is no object', null, /expected options to be an object/],
    ['a number', 5, /expected options to be an object, got 5/],
  ])('refuses %s', (_what, input, message) => {
    const error = failure(input);
    expect(error.code).toBe('invalid_parameter');
    expect(error.message).toMatch(message);
  });

  test('never repeats a prompt in an error', () => {
    const secret = 'my password is hunter2 and more of it';
    expect(JSON.stringify(failure({ prompt: `${secret}\ud800` }))).not.toContain('hunter2');
    expect(failure({ prompt: `${secret}\ud800` }).message).not.toContain('hunter2');
    expect(failure({ messages: secret }).message).not.toContain('hunter2');
  });

  test('NUL, noncharacters and every well-formed pair are text', () => {
    for (const prompt of ['\0', '\uffff', '😀', '\u202e']) parseGenerate({ prompt }, facts);
  });
});
