import type { CallGrammar } from '../output/output-grammar';

export const DIALECT_NAMES = [
  'chatglm3',
  'glm4',
  'glm4.5',
  'glm4.7',
  'hermes',
  'qwen3-coder',
  'llama3',
  'mistral',
] as const;
export type DialectName = (typeof DIALECT_NAMES)[number];

/** How one family of models writes tool calls. */
export interface Dialect {
  readonly name: DialectName;
  readonly calls: CallGrammar;
  /** Control tokens that a reader of the output has to see, in the spelling of the vocabulary. */
  readonly controlTokens: readonly string[];
  /** The model puts a newline before its answer. */
  readonly beginsWithNewline: boolean;
  /** The tags of reasoning stand on lines of their own. */
  readonly reasonsOnLines: boolean;
  /** What stands in the place of reasoning where there is none, before a call; empty when nothing does. */
  readonly emptyReasoning: string;
  /** Characters of the ids that templates of this dialect take; null for any. */
  readonly idLength: number | null;
  /**
   * What makes the model go on with a call of this tool (or of any, for null) when the prompt ends with it; null when
   * no text does so surely.
   */
  callHead(tool: string | null, template: string): string | null;
}
