import type { ToolDefinition } from '../tool-types';
import { ArgumentWriter } from './argument-writer';
import { type CallReader, type CallSink, isBlank, mayBeName, type ReaderStatus } from './call-reader';
import { MarkerScanner } from './marker-scanner';

export const FUNCTION_OPEN = '<function=';
const PARAMETER_OPEN = '<parameter=';
const PARAMETER_CLOSE = '</parameter>';
const FUNCTION_CLOSE = '</function>';
const CALL_CLOSE = '</tool_call>';

type State = 'start' | 'name' | 'parameter' | 'key' | 'value' | 'closer';

const MARKERS: Readonly<Record<State, readonly string[]>> = {
  start: [FUNCTION_OPEN],
  name: ['>'],
  parameter: [PARAMETER_OPEN, FUNCTION_CLOSE],
  key: ['>'],
  value: [PARAMETER_CLOSE],
  closer: [CALL_CLOSE],
};

const MAX_KEY_LENGTH = 1024;

/** Reads a call of Qwen3-Coder: <function=NAME>, then <parameter=KEY>, VALUE and </parameter> on lines of their own. */
export class XmlCallReader implements CallReader {
  readonly #sink: CallSink;
  readonly #tools: readonly ToolDefinition[];
  #state: State = 'start';
  #scanner = new MarkerScanner(MARKERS.start);
  #writer: ArgumentWriter | null = null;
  #text = '';
  /** A value's last newline is the format's: it waits until more of the value comes. */
  #heldNewline = '';
  #isValueStart = false;

  /** `opener` is what stood before: models leave <tool_call> out at times. */
  constructor(sink: CallSink, tools: readonly ToolDefinition[], opener: string) {
    this.#sink = sink;
    this.#tools = tools;
    if (opener === FUNCTION_OPEN) this.#enter('name');
  }

  push(character: string): ReaderStatus {
    const { text, marker } = this.#scanner.push(character);
    if (!this.#take(text)) return 'refused';
    return marker === null ? 'more' : this.#mark(marker);
  }

  /** A missing </tool_call> is no loss: the call is whole. */
  end(): 'done' | 'refused' {
    return this.#state === 'closer' ? 'done' : 'refused';
  }

  #take(text: string): boolean {
    switch (this.#state) {
      case 'name':
        this.#text += text;
        return mayBeName(this.#text);
      case 'key':
        this.#text += text;
        return this.#text.length <= MAX_KEY_LENGTH;
      case 'value':
        for (const character of text) this.#takeValue(character);
        return true;
      default:
        return [...text].every(isBlank);
    }
  }

  #takeValue(character: string): void {
    if (this.#isValueStart) {
      this.#isValueStart = false;
      if (character === '\n') return;
    }
    if (character === '\n') {
      this.#writer?.text(this.#heldNewline);
      this.#heldNewline = '\n';
      return;
    }
    this.#writer?.text(this.#heldNewline + character);
    this.#heldNewline = '';
  }

  #mark(marker: string): ReaderStatus {
    switch (this.#state) {
      case 'start':
        return this.#enter('name');
      case 'name':
        return this.#begin(this.#text.trim());
      case 'parameter':
        if (marker === PARAMETER_OPEN) return this.#enter('key');
        this.#writer?.end();
        return this.#sink.finish() ? this.#enter('closer') : 'refused';
      case 'key':
        this.#writer?.beginValue(this.#text.trim());
        this.#isValueStart = true;
        this.#heldNewline = '';
        return this.#enter('value');
      case 'value':
        this.#writer?.endValue();
        return this.#enter('parameter');
      case 'closer':
        return 'done';
    }
  }

  #begin(name: string): ReaderStatus {
    if (name === '' || !this.#sink.begin(name)) return 'refused';
    this.#writer = new ArgumentWriter(
      this.#sink,
      this.#tools.find((tool) => tool.name === name),
    );
    return this.#enter('parameter');
  }

  #enter(state: State): 'more' {
    this.#state = state;
    this.#scanner = new MarkerScanner(MARKERS[state]);
    this.#text = '';
    return 'more';
  }
}
