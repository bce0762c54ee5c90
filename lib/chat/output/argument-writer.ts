import type { ToolDefinition } from '../tool-types';
import { allows, isTextOnly, parameterTypes } from './argument-types';
import type { CallSink } from './call-reader';
import { parseJson } from './json-value';
import { parsePythonLiteral } from './python-literal';

/**
 * Writes arguments that a dialect spells as plain text as JSON, with the types of the tool's schema. Text for a parameter
 * that is a string goes on as it comes; other values are understood when they are whole.
 */
export class ArgumentWriter {
  readonly #sink: CallSink;
  readonly #tool: ToolDefinition | undefined;
  #numArguments = 0;
  #key = '';
  #isStreaming = false;
  #text = '';

  constructor(sink: CallSink, tool: ToolDefinition | undefined) {
    this.#sink = sink;
    this.#tool = tool;
  }

  beginValue(key: string): void {
    const types = parameterTypes(this.#tool, key);
    this.#isStreaming = isTextOnly(types);
    this.#key = key;
    this.#text = '';
    if (this.#isStreaming) this.#sink.arguments(`${this.#head()}"`);
  }

  text(text: string): void {
    if (!this.#isStreaming) this.#text += text;
    else if (text !== '') this.#sink.arguments(JSON.stringify(text).slice(1, -1));
  }

  endValue(): void {
    if (this.#isStreaming) this.#sink.arguments('"');
    else this.#sink.arguments(this.#head() + this.#understand(this.#text));
  }

  /** An argument whose JSON text is known. */
  value(key: string, json: string): void {
    this.#key = key;
    this.#sink.arguments(this.#head() + json);
  }

  end(): void {
    this.#sink.arguments(this.#numArguments === 0 ? '{}' : '}');
  }

  #head(): string {
    this.#numArguments += 1;
    return `${this.#numArguments === 1 ? '{' : ','}${JSON.stringify(this.#key)}:`;
  }

  /** JSON where it is some, as the model wrote it, so that no digit of a number is lost. Else Python, else text. */
  #understand(text: string): string {
    const types = parameterTypes(this.#tool, this.#key);
    const trimmed = text.trim();
    const isWanted = (value: unknown): boolean =>
      value !== undefined && allows(types, value) && (types === null || typeof value !== 'string');
    if (isWanted(parseJson(trimmed))) return trimmed;
    const value = parsePythonLiteral(trimmed);
    return isWanted(value) ? JSON.stringify(value) : JSON.stringify(text);
  }
}
