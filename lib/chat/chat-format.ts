import { detectDialect } from './dialects/detect-dialect';
import type { DialectName } from './dialects/dialect';
import type { ThinkTags } from './output/output-grammar';
import type { PromptFormat } from './prompt';
import { toolTemplate } from './templates/choose-template';

/** How a model's conversations are written and its answers read. Plain data. */
export interface ChatFormat {
  /** Null when it is not known how the model writes tool calls. */
  readonly dialect: DialectName | null;
  /** Null for a model that does not reason aloud. */
  readonly think: ThinkTags | null;
  /** Jinja source for conversations with tools; null when the model has none that takes them. */
  readonly toolTemplate: string | null;
}

const THINK_TAGS: readonly ThinkTags[] = [
  { open: '<think>', close: '</think>' },
  { open: '[THINK]', close: '[/THINK]' },
];

/** `wanted` is the caller's choice of a dialect, null for what the model itself shows. */
export function chatFormatOf(
  { templates, markup }: PromptFormat,
  wanted: DialectName | 'none' | null,
): ChatFormat {
  const forTools = toolTemplate(templates, markup);
  const tokens = markup.map(({ content }) => content);
  const shown = forTools ?? templates.default;
  const dialect = wanted === 'none' ? null : (wanted ?? detectDialect(shown, tokens));
  const sources = [templates.default, forTools].filter((source) => source !== null);
  const think = THINK_TAGS.find(
    ({ close }) => tokens.includes(close) || sources.some((source) => source.includes(close)),
  );
  return { dialect, think: think ?? null, toolTemplate: forTools };
}
