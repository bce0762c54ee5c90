import type { ToolDefinition } from '../tool-types';
import { ArgumentWriter } from './argument-writer';
import { type CallReader, type CallSink, isBlank, mayBeName, type ReaderStatus } from './call-reader';
import { MarkerScanner } from './marker-scanner';

const KEY_OPEN = '<arg_key>';
const KEY_CLOSE = '</arg_key>';
const VALUE_OPEN = '<arg_value>';
const VALUE_CLOSE = '</arg_value>';
const CALL_CLOSE = '</tool_call>';

type State = 'name' | 'argument' | 'key' | 'gap' | 'value';

const MARKERS: Readonly<Record<State, readonly string[]>> = {
  name: [KEY_OPEN, CALL_CLOSE, '\n'],
  argument: [KEY_OPEN, CALL_CLOSE],
  key: [KEY_CLOSE],
  gap: [VALUE_OPEN],
  value: [VALUE_CLOSE],
};

const MAX_KEY_LENGTH = 1024;

/**
 * Reads a call of the GLM family from 4.5 on: a name, then pairs of <arg_key> and <arg_value>, then </tool_call>. The
 * generations differ in the white space between these, which means nothing.
 */
export class TaggedCallReader implements CallReader {
  readonly #sink: CallSink;
  readonly #tools: readonly ToolDefinition[];
  #state: State = 'name';
  #scanner = new MarkerScanner(MARKERS.name);
  #writer: ArgumentWriter | null = null;
  /** The name or key being read. */
  #text = '';

  constructor(sink: CallSink, tools: readonly ToolDefinition[]) {
    this.#sink = sink;
    this.#tools = tools;
  }

  push(character: string): ReaderStatus {
    const { text, marker } = this.#scanner.push(character);
    if (!this.#take(text)) return 'refused';
    return marker === null ? 'more' : this.#mark(marker);
  }

  end(): 'refused' {
    return 'refused';
  }

  #take(text: string): boolean {
    switch (this.#state) {
      case 'name':
        this.#text += text;
        return mayBeName(this.#text);
      case 'argument':
      case 'gap':
        return [...text].every(isBlank);
      case 'key':
        this.#text += text;
        return this.#text.length <= MAX_KEY_LENGTH;
      case 'value':
        this.#writer?.text(text);
        return true;
    }
  }

  #mark(marker: string): ReaderStatus {
    if (this.#state === 'name') {
      const name = this.#text.trim();
      if (name === '') return marker === '\n' ? 'more' : 'refused';
      if (!this.#sink.begin(name)) return 'refused';
      this.#writer = new ArgumentWriter(
        this.#sink,
        this.#tools.find((tool) => tool.name === name),
      );
      if (marker === '\n') return this.#enter('argument');
    }
    switch (marker) {
      case KEY_OPEN:
        return this.#enter('key');
      case KEY_CLOSE:
        return this.#enter('gap');
      case VALUE_OPEN:
        this.#writer?.beginValue(this.#text);
        return this.#enter('value');
      case VALUE_CLOSE:
        this.#writer?.endValue();
        return this.#enter('argument');
      default:
        this.#writer?.end();
        return this.#sink.finish() ? 'done' : 'refused';
    }
  }

  #enter(state: State): 'more' {
    this.#state = state;
    this.#scanner = new MarkerScanner(MARKERS[state]);
    if (state === 'key') this.#text = '';
    return 'more';
  }
}
