import { ArgumentWriter } from '../output/argument-writer';
import { type CallReader, type CallSink, FixedText, type ReaderStatus } from '../output/call-reader';
import { KeywordArguments } from '../output/keyword-arguments';
import { OfferedName } from '../output/offered-name';
import type { ToolDefinition } from '../tool-types';
import type { Dialect } from './dialect';

type State = 'name' | 'opening' | 'arguments' | 'fence';

/** Reads the name of a tool on a line of its own, then a fenced Python call: tool_call(key=value, ...). */
class FencedCallReader implements CallReader {
  readonly #sink: CallSink;
  readonly #name: OfferedName;
  readonly #opening = new FixedText('```python', 'tool_call', '(');
  readonly #fence = new FixedText('```');
  #arguments: KeywordArguments | null = null;
  #tool: ToolDefinition | null = null;
  #state: State = 'name';

  constructor(sink: CallSink, tools: readonly ToolDefinition[]) {
    this.#sink = sink;
    this.#name = new OfferedName(tools, '\n');
  }

  push(character: string): ReaderStatus {
    switch (this.#state) {
      case 'name': {
        const tool = this.#name.push(character);
        if (tool === undefined) return 'refused';
        this.#tool = tool;
        if (tool !== null) this.#state = 'opening';
        return 'more';
      }
      case 'opening': {
        const status = this.#opening.push(character);
        return status === 'done' ? this.#begin() : status;
      }
      case 'arguments': {
        const status = this.#arguments?.push(character) ?? 'refused';
        if (status !== 'done') return status;
        this.#state = 'fence';
        return this.#sink.finish() ? 'more' : 'refused';
      }
      case 'fence':
        return this.#fence.push(character);
    }
  }

  end(): 'done' | 'refused' {
    return this.#state === 'fence' ? 'done' : 'refused';
  }

  #begin(): ReaderStatus {
    const tool = this.#tool;
    if (tool === null || !this.#sink.begin(tool.name)) return 'refused';
    this.#arguments = new KeywordArguments(new ArgumentWriter(this.#sink, tool));
    this.#state = 'arguments';
    return 'more';
  }
}

/** ChatGLM3: the name on a line, the arguments as a call in Python below it, at the beginning of a turn. */
export const chatglm3: Dialect = {
  name: 'chatglm3',
  calls: {
    openers: [],
    opensUnmarked: 'turn',
    turn: '<|assistant|>',
    separator: null,
    makeReader: (sink, tools) => new FencedCallReader(sink, tools),
  },
  controlTokens: ['<|assistant|>'],
  beginsWithNewline: true,
  reasonsOnLines: false,
  emptyReasoning: '',
  idLength: null,
  callHead: (tool) => (tool === null ? null : `${tool}\n \`\`\`python\ntool_call(`),
};
