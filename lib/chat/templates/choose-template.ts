import { AutoglmError } from '../../errors';
import type { ChatTemplates } from '../../model/checkpoint-types';
import type { Markup } from '../mark-markup';
import { CHATGLM3, CHATML, GLM4 } from './built-in-templates';
import { usesVariable } from './template-code';

/** Formats that a vocabulary gives away: its control tokens serve no other. */
const BUILT_IN: readonly { readonly tokens: readonly string[]; readonly template: string }[] = [
  { tokens: ['<|im_start|>', '<|im_end|>'], template: CHATML },
  { tokens: ['[gMASK]', '<sop>', '<|system|>', '<|user|>', '<|assistant|>'], template: GLM4 },
  { tokens: ['[gMASK]', 'sop', '<|system|>', '<|user|>', '<|assistant|>'], template: CHATGLM3 },
];

export const takesTools = (template: string): boolean => usesVariable(template, 'tools');

/** The built-in template for a vocabulary, or null. */
export function builtInTemplate(markup: readonly Markup[]): string | null {
  const tokens = new Set(markup.map(({ content }) => content));
  return BUILT_IN.find((format) => format.tokens.every((token) => tokens.has(token)))?.template ?? null;
}

/** The template for conversations with tools, or null when there is none. */
export function toolTemplate(templates: ChatTemplates, markup: readonly Markup[]): string | null {
  const { named, default: own } = templates;
  if (Object.hasOwn(named, 'tool_use')) return named.tool_use as string;
  if (own !== null && takesTools(own)) return own;
  // GLM-4-9B's own template wants tools inside of a message; ours writes the same text.
  const builtIn = builtInTemplate(markup);
  return builtIn !== null && takesTools(builtIn) ? builtIn : null;
}

/** The template named `tool_use` is for conversations with tools, the default one for all others. */
export function chooseTemplate(
  templates: ChatTemplates,
  markup: readonly Markup[],
  hasTools: boolean,
): string {
  if (hasTools) {
    const template = toolTemplate(templates, markup);
    if (template !== null) return template;
  }
  if (templates.default !== null) return templates.default;
  const names = Object.keys(templates.named);
  const builtIn = builtInTemplate(markup);
  if (names.length === 0 && builtIn !== null) return builtIn;
  const found =
    names.length === 0 ? 'no chat template' : `chat templates ${names.join(', ')} but no default one`;
  throw new AutoglmError('template_failed', `the model has ${found}`, {
    hint: 'Send a prompt instead of messages, or give a template with chatTemplate when loading the model.',
  });
}
