import { ArgumentWriter } from '../output/argument-writer';
import { type CallReader, type CallSink, FixedText, type ReaderStatus } from '../output/call-reader';
import { FirstCharacterReader } from '../output/first-character-reader';
import { JsonCallReader } from '../output/json-call';
import { KeywordArguments } from '../output/keyword-arguments';
import { OfferedName } from '../output/offered-name';
import type { ToolDefinition } from '../tool-types';
import type { Dialect } from './dialect';

const PYTHON_TAG = '<|python_tag|>';

/** Reads what the built-in tools are called with: name.call(key=value). */
class MethodCallReader implements CallReader {
  readonly #sink: CallSink;
  readonly #name: OfferedName;
  readonly #method = new FixedText('call', '(');
  #tool: ToolDefinition | null = null;
  #arguments: KeywordArguments | null = null;

  constructor(sink: CallSink, tools: readonly ToolDefinition[]) {
    this.#sink = sink;
    this.#name = new OfferedName(tools, '.');
  }

  push(character: string): ReaderStatus {
    if (this.#tool === null) {
      const tool = this.#name.push(character);
      if (tool === undefined) return 'refused';
      this.#tool = tool;
      return 'more';
    }
    if (this.#arguments === null) {
      const status = this.#method.push(character);
      if (status !== 'done') return status;
      if (!this.#sink.begin(this.#tool.name)) return 'refused';
      this.#arguments = new KeywordArguments(new ArgumentWriter(this.#sink, this.#tool));
      return 'more';
    }
    const status = this.#arguments.push(character);
    if (status !== 'done') return status;
    return this.#sink.finish() ? 'done' : 'refused';
  }

  end(): 'refused' {
    return 'refused';
  }
}

/** Llama 3: {"name": ..., "parameters": {...}} on a line of its own, or anything callable after <|python_tag|>. */
export const llama3: Dialect = {
  name: 'llama3',
  calls: {
    openers: [PYTHON_TAG],
    opensUnmarked: 'line',
    turn: null,
    separator: ';',
    makeReader: (sink, tools, opener) =>
      opener === PYTHON_TAG
        ? new FirstCharacterReader((first) =>
            first === '{' || first === '['
              ? new JsonCallReader(sink, { closer: '', takesArray: true, isStrict: true })
              : new MethodCallReader(sink, tools),
          )
        : new JsonCallReader(sink, { closer: '', takesArray: false, isStrict: true }),
  },
  controlTokens: [PYTHON_TAG],
  beginsWithNewline: false,
  reasonsOnLines: true,
  emptyReasoning: '',
  idLength: null,
  callHead: (tool) => (tool === null ? '{"name": "' : `{"name": ${JSON.stringify(tool)}, "parameters": `),
};
