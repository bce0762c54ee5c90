import type { ToolDefinition } from '../tool-types';

/**
 * Reads the name of an offered tool at the beginning of a turn, up to the character that ends names. Where nothing marks
 * a call, only the names of tools tell it from text.
 */
export class OfferedName {
  readonly #tools: readonly ToolDefinition[];
  readonly #end: string;
  #text = '';

  constructor(tools: readonly ToolDefinition[], end: string) {
    this.#tools = tools;
    this.#end = end;
  }

  /** The tool once its name is whole; `null` for more, `undefined` when there is none of that name. */
  push(character: string): ToolDefinition | null | undefined {
    if (character === this.#end) return this.#tools.find(({ name }) => name === this.#text.trimEnd());
    this.#text += character;
    const text = this.#text.trimEnd();
    return this.#tools.some(({ name }) => name.startsWith(text)) ? null : undefined;
  }
}
