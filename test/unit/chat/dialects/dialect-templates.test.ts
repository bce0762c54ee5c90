import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chatFormatOf } from '../../../../lib/chat/chat-format';
import type { Markup } from '../../../../lib/chat/mark-markup';
import { PromptRenderer } from '../../../../lib/chat/prompt';

interface Conversation {
  readonly messages: readonly Readonly<Record<string, unknown>>[];
  readonly tools?: readonly Readonly<Record<string, unknown>>[];
  readonly options?: Readonly<Record<string, unknown>>;
  readonly addGenerationPrompt?: boolean;
}
interface Vectors {
  readonly conversations: readonly Conversation[];
  readonly templates: Readonly<
    Record<
      string,
      { readonly source: string; readonly rendered: readonly { text?: string; error?: string }[] }
    >
  >;
  readonly programs: Readonly<Record<string, readonly string[]>>;
}

/** Made by test/fixtures/templates/make_dialect_vectors.py. */
const vectors = JSON.parse(
  readFileSync(join(__dirname, '../../../fixtures/templates/dialect-vectors.json'), 'utf8'),
) as Vectors;

const markupOf = (...contents: string[]): Markup[] =>
  contents.map((content) => ({ content, isSpecial: !/^<\/?(think|tool_|arg_)/.test(content) }));

/** Control tokens and tags of the models, so that marking them is part of the test. */
const TAGS = markupOf(
  '<think>',
  '</think>',
  '<tool_call>',
  '</tool_call>',
  '<tool_response>',
  '</tool_response>',
  '<arg_key>',
  '</arg_key>',
  '<|im_start|>',
  '<|im_end|>',
  '<|eot_id|>',
  '[INST]',
  '[/INST]',
  '[TOOL_CALLS]',
);

function render(source: string | null, markup: readonly Markup[], conversation: Conversation): string {
  const renderer = new PromptRenderer({
    templates: { default: source, named: {} },
    markup,
    bosToken: '<s>',
    eosToken: '</s>',
  });
  const { messages, tools = null, options = {}, addGenerationPrompt = true } = conversation;
  return renderer.render({ messages, tools, templateOptions: options, addGenerationPrompt }).text;
}

describe.each(Object.entries(vectors.templates))('a template of the dialect %s', (dialect, vector) => {
  test('is recognised', () => {
    const templates = { default: vector.source, named: {} };
    const format = { templates, markup: [], bosToken: '', eosToken: '' };
    expect(chatFormatOf(format, null)).toMatchObject({ dialect, toolTemplate: vector.source });
  });

  test.each(vectors.conversations.map((_, i) => i))('renders conversation %d as transformers does', (i) => {
    const expected = vector.rendered[i] ?? {};
    const conversation = vectors.conversations[i] as Conversation;
    if (expected.text !== undefined) {
      expect(render(vector.source, TAGS, conversation)).toBe(expected.text);
      return;
    }
    expect(() => render(vector.source, TAGS, conversation)).toThrowError(
      expect.objectContaining({
        code: 'template_failed',
        message: `the chat template refuses the conversation: ${expected.error}`,
      }),
    );
  });
});

const GLM = ['<|system|>', '<|user|>', '<|assistant|>', '<|observation|>'];
const PROGRAMS = { glm4: ['[gMASK]', '<sop>', ...GLM], chatglm3: ['[gMASK]', 'sop', ...GLM] } as const;

describe.each(Object.entries(PROGRAMS))('the built-in template of %s', (dialect, tokens) => {
  const markup = markupOf(...tokens);

  test('is taken for its vocabulary', () => {
    const format = { templates: { default: null, named: {} }, markup, bosToken: '', eosToken: '' };
    expect(chatFormatOf(format, null).dialect).toBe(dialect);
    expect(chatFormatOf(format, null).toolTemplate).toContain('tools');
  });

  test.each(vectors.conversations.map((_, i) => i))('renders conversation %d as its program does', (i) => {
    expect(render(null, markup, vectors.conversations[i] as Conversation)).toBe(
      vectors.programs[dialect]?.[i],
    );
  });
});

test('a template that wants tools inside of a message gives way to the built-in one', () => {
  const own =
    "[gMASK]<sop>{% for item in messages %}{% if item['tools'] is defined %}<|system|>{% set tools = item['tools'] %}{% for tool in tools %}{{ tool }}{% endfor %}{% endif %}<|{{ item.role }}|>\n{{ item.content }}{% endfor %}";
  const markup = markupOf(...PROGRAMS.glm4);
  const [plain, , , , , withTools] = vectors.conversations as [Conversation, ...Conversation[]];
  expect(render(own, markup, withTools as Conversation)).toBe(vectors.programs.glm4?.[5]);
  expect(render(own, markup, plain)).toBe('[gMASK]<sop><|user|>\nHi');
});
