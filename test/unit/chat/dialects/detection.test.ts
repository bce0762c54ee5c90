import { describe, expect, test } from 'vitest';
import { chatFormatOf } from '../../../../lib/chat/chat-format';
import type { DialectName } from '../../../../lib/chat/dialects/dialect';
import { DIALECTS } from '../../../../lib/chat/dialects/registry';
import { endsInReasoning, forcedCallText } from '../../../../lib/chat/prompt-ending';
import { usesVariable } from '../../../../lib/chat/templates/template-code';
import { parseOutput, THINK, TOOLS } from './parse-output';

const format = (template: string | null, ...tokens: string[]) => ({
  templates: { default: template, named: {} },
  markup: tokens.map((content) => ({ content, isSpecial: true })),
  bosToken: '',
  eosToken: '',
});

describe('a dialect', () => {
  test.each([
    ['[TOOL_CALLS]', 'mistral'],
    ['<|python_tag|>', 'llama3'],
    ['<arg_key> <arg_value>', 'glm4.7'],
    ['[gMASK] <sop> <|observation|>', 'glm4'],
    ['[gMASK] sop <|observation|>', 'chatglm3'],
    ['<|im_start|> <|im_end|>', 'hermes'],
    ['<s> </s>', null],
  ])('is shown by the control tokens %s where no template does', (tokens, dialect) => {
    expect(chatFormatOf(format(null, ...tokens.split(' ')), null).dialect).toBe(dialect);
    expect(chatFormatOf(format('{{ messages }}', ...tokens.split(' ')), null).dialect).toBe(dialect);
  });

  test('can be chosen, and left out', () => {
    const shown = format('<tool_call>');
    expect(chatFormatOf(shown, null).dialect).toBe('hermes');
    expect(chatFormatOf(shown, 'llama3').dialect).toBe('llama3');
    expect(chatFormatOf(shown, 'none').dialect).toBeNull();
  });

  test('of the template for tools counts, where there is one', () => {
    const templates = { default: '{{ messages }}', named: { tool_use: '{{ tools }}[TOOL_CALLS]' } };
    expect(chatFormatOf({ ...format(null), templates }, null)).toMatchObject({
      dialect: 'mistral',
      toolTemplate: templates.named.tool_use,
    });
  });
});

test.each([
  ['<think> in the template', format('{{ "<think></think>" }}'), THINK],
  ['</think> in the vocabulary', format('{{ messages }}', '</think>'), THINK],
  ['[/THINK] in the vocabulary', format(null, '[THINK]', '[/THINK]'), { open: '[THINK]', close: '[/THINK]' }],
  ['neither', format('{{ messages }}', '<s>'), null],
])('reasoning is told from the answer with %s', (_, shown, think) => {
  expect(chatFormatOf(shown, null).think).toEqual(think);
});

test.each([
  ['{% if tools %}', true],
  ['{%- for tool in tools -%}', true],
  ['{{ tools | tojson }}', true],
  ['{% set tools = none %}{{ tools }}', true],
  ["{% set tools = item['tools'] %}{{ tools }}", false],
  ['{% set tools = message.tools %}{{ tools }}', false],
  ["{{ message['tools'] }}", false],
  ['{{ message.tools }}', false],
  ['# tools <tools>', false],
  ['{{ \'tools\' }}{{ "tools" }}', false],
  ['{{ mytools }}{{ tools_in_user_message }}', false],
])('the template %s looks at tools: %s', (source, uses) => {
  expect(usesVariable(source, 'tools')).toBe(uses);
});

const marked = (text: string, plainRanges: number[] = []) => ({ text, plainRanges });

test('reasoning is open where the prompt ends with its tag, and no user wrote it', () => {
  expect(endsInReasoning(marked('a<think>'), THINK)).toBe(true);
  expect(endsInReasoning(marked('a<think>\n'), THINK)).toBe(true);
  expect(endsInReasoning(marked('a<think></think>'), THINK)).toBe(false);
  expect(endsInReasoning(marked('a<think>b'), THINK)).toBe(false);
  expect(endsInReasoning(marked('a<think>', [1, 8]), THINK)).toBe(false);
  expect(endsInReasoning(marked('<think>'), null)).toBe(false);
});

// Goal: what is written in the model's name is the beginning of a call that the parser then understands.
describe('the head of a call', () => {
  const REST: Readonly<Record<DialectName, string>> = {
    chatglm3: "city='Ulm')\n```",
    glm4: '{"city": "Ulm"}',
    'glm4.5': '<arg_key>city</arg_key>\n<arg_value>Ulm</arg_value>\n</tool_call>',
    'glm4.7': '<arg_key>city</arg_key><arg_value>Ulm</arg_value></tool_call>',
    hermes: '{"city": "Ulm"}}\n</tool_call>',
    'qwen3-coder': '<parameter=city>\nUlm\n</parameter>\n</function>\n</tool_call>',
    llama3: '{"city": "Ulm"}}',
    mistral: '{"city": "Ulm"}',
  };
  const cases = (Object.keys(REST) as DialectName[]).flatMap((dialect) =>
    ['P<think>\n', 'P<think>', 'P', 'P<think></think>'].map((prompt) => ({ dialect, prompt })),
  );

  test.each(cases)('$dialect after $prompt', ({ dialect, prompt }) => {
    const template = '[ARGS]';
    const head = forcedCallText(marked(prompt), {
      dialect: DIALECTS[dialect],
      think: THINK,
      template,
      tool: 'get_weather',
    });
    if (head === null) throw new Error('no head');
    const beginsInReasoning = /<think>\n?$/.test(prompt);
    const found = parseOutput({ dialect, think: THINK, beginsInReasoning, tools: TOOLS }, [
      head,
      REST[dialect],
    ]);
    expect(found).toMatchObject({
      calls: [['get_weather', { city: 'Ulm' }]],
      text: '',
      reasoning: '',
      warnings: [],
    });
  });

  test('of any tool is there where the format has one', () => {
    const any = (dialect: DialectName) => DIALECTS[dialect].callHead(null, '');
    expect(any('glm4')).toBeNull();
    expect(any('chatglm3')).toBeNull();
    for (const dialect of ['glm4.5', 'glm4.7', 'hermes', 'qwen3-coder', 'llama3', 'mistral'] as const) {
      expect(any(dialect)).toMatch(/[<[{]/);
    }
    expect(DIALECTS.mistral.callHead('f', 'old form')).toBeNull();
  });
});
