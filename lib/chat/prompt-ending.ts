import type { TextRanges } from '../tokenizer/added-tokens';
import type { Dialect } from './dialects/dialect';
import type { MarkedText } from './mark-markup';
import type { ThinkTags } from './output/output-grammar';

/** Whether the model's first words belong to its reasoning: the prompt ends with the opening tag, and not as user text. */
export function endsInReasoning({ text, plainRanges }: MarkedText, think: ThinkTags | null): boolean {
  const end = text.trimEnd();
  if (think === null || !end.endsWith(think.open)) return false;
  return !isPlain(plainRanges, end.length - think.open.length);
}

function isPlain(ranges: TextRanges, position: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) {
    if ((ranges[i] as number) <= position && position < (ranges[i + 1] as number)) return true;
  }
  return false;
}

export interface ForcedCall {
  readonly dialect: Dialect;
  readonly think: ThinkTags | null;
  readonly template: string;
  /** The tool to call; null for any. */
  readonly tool: string | null;
}

/**
 * What is written in the model's name after the prompt so that it goes on with a call: reasoning that the prompt has opened
 * is ended first. Null when the dialect has no such text.
 */
export function forcedCallText(
  prompt: MarkedText,
  { dialect, think, template, tool }: ForcedCall,
): string | null {
  const head = dialect.callHead(tool, template);
  if (head === null || think === null) return head;
  if (endsInReasoning(prompt, think)) {
    const isOnOwnLine = prompt.text.endsWith('\n');
    return isOnOwnLine ? `\n${think.close}\n\n${head}` : think.close + head;
  }
  const hasReasoned = prompt.text.trimEnd().endsWith(think.close);
  return hasReasoned ? head : dialect.emptyReasoning + head;
}
