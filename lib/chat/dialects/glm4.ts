import type { CallReader, CallSink, ReaderStatus } from '../output/call-reader';
import { JsonValueScanner } from '../output/json-value';
import { OfferedName } from '../output/offered-name';
import type { ToolDefinition } from '../tool-types';
import type { Dialect } from './dialect';

/** Reads the name of a tool on a line of its own, then a JSON object. */
class NamedJsonReader implements CallReader {
  readonly #sink: CallSink;
  readonly #name: OfferedName;
  readonly #json = new JsonValueScanner();
  #tool: ToolDefinition | null = null;
  #hasBegun = false;

  constructor(sink: CallSink, tools: readonly ToolDefinition[]) {
    this.#sink = sink;
    this.#name = new OfferedName(tools, '\n');
  }

  push(character: string): ReaderStatus {
    if (this.#tool === null) {
      const tool = this.#name.push(character);
      if (tool === undefined) return 'refused';
      this.#tool = tool;
      return 'more';
    }
    if (!this.#hasBegun) {
      if (/\s/.test(character)) return 'more';
      if (character !== '{' || !this.#sink.begin(this.#tool.name)) return 'refused';
      this.#hasBegun = true;
    }
    const status = this.#json.push(character);
    if (status === 'bad') return 'refused';
    this.#sink.arguments(character);
    if (status === 'more') return 'more';
    return this.#sink.finish() ? 'done' : 'refused';
  }

  end(): 'refused' {
    return 'refused';
  }
}

/** GLM-4-9B, GLM-4-0414 and GLM-Z1: the name on a line, the arguments as JSON below it, at the beginning of a turn. */
export const glm4: Dialect = {
  name: 'glm4',
  calls: {
    openers: [],
    opensUnmarked: 'turn',
    turn: '<|assistant|>',
    separator: null,
    makeReader: (sink, tools) => new NamedJsonReader(sink, tools),
  },
  controlTokens: ['<|assistant|>'],
  beginsWithNewline: true,
  reasonsOnLines: true,
  emptyReasoning: '',
  idLength: null,
  callHead: (tool) => (tool === null ? null : `${tool}\n`),
};
