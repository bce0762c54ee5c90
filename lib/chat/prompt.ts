import { AutoglmError } from '../errors';
import type { ChatTemplates } from '../model/checkpoint-types';
import { type MarkedText, type Markup, MarkupMarker } from './mark-markup';
import { ChatTemplate } from './template';
import { chooseTemplate } from './templates/choose-template';

/** What a model's prompts are made with. Plain data. */
export interface PromptFormat {
  readonly templates: ChatTemplates;
  readonly markup: readonly Markup[];
  /** Empty when the vocabulary has none. */
  readonly bosToken: string;
  readonly eosToken: string;
}

/** A conversation to render. Plain data; every string in it is untrusted. */
export interface PromptInput {
  readonly messages: readonly Readonly<Record<string, unknown>>[];
  readonly tools: readonly Readonly<Record<string, unknown>>[] | null;
  readonly templateOptions: Readonly<Record<string, unknown>>;
  readonly addGenerationPrompt: boolean;
}

/** Variables that callers may not replace. */
const RESERVED = new Set(['messages', 'tools', 'add_generation_prompt', 'bos_token', 'eos_token']);

/** Makes the prompts of one model. Templates are parsed when they are first used. */
export class PromptRenderer {
  readonly #format: PromptFormat;
  readonly #parsed = new Map<string, ChatTemplate>();

  constructor(format: PromptFormat) {
    this.#format = format;
  }

  render({ messages, tools, templateOptions, addGenerationPrompt }: PromptInput): MarkedText {
    const { markup, bosToken, eosToken, templates } = this.#format;
    for (const name of Object.keys(templateOptions)) {
      if (!RESERVED.has(name)) continue;
      throw new AutoglmError('invalid_parameter', `templateOptions may not set "${name}"`, {
        details: { where: `templateOptions.${name}` },
      });
    }
    const hasTools = tools !== null && tools.length > 0;
    const source = chooseTemplate(templates, markup, hasTools || messages.some(isOfTools));
    const marker = new MarkupMarker(markup, [messages, tools, templateOptions, source]);
    const rendered = this.#parse(source).render({
      // As in transformers, both are none rather than undefined when there are none.
      documents: null,
      ...(marker.markData(templateOptions) as Record<string, unknown>),
      messages: marker.markMessages(messages),
      tools: hasTools ? marker.markData(tools) : null,
      add_generation_prompt: addGenerationPrompt,
      bos_token: bosToken,
      eos_token: eosToken,
    });
    return marker.unmark(rendered);
  }

  #parse(source: string): ChatTemplate {
    let template = this.#parsed.get(source);
    if (template === undefined) {
      template = new ChatTemplate(source);
      this.#parsed.set(source, template);
    }
    return template;
  }
}

const isOfTools = ({ role, tool_calls: calls }: PromptInput['messages'][number]): boolean =>
  role === 'tool' || (Array.isArray(calls) && calls.length > 0);
