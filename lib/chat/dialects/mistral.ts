import { type CallReader, type CallSink, isBlank, mayBeName, type ReaderStatus } from '../output/call-reader';
import { FirstCharacterReader } from '../output/first-character-reader';
import { JsonCallReader } from '../output/json-call';
import { JsonValueScanner } from '../output/json-value';
import { MarkerScanner } from '../output/marker-scanner';
import type { Dialect } from './dialect';

const TOOL_CALLS = '[TOOL_CALLS]';
const ARGS = '[ARGS]';
const CALL_ID = '[CALL_ID]';

/** Reads the name, then the arguments as JSON: name{...}, in some versions with [CALL_ID] and [ARGS] between them. */
class NameFirstReader implements CallReader {
  readonly #sink: CallSink;
  readonly #json = new JsonValueScanner();
  readonly #scanner = new MarkerScanner([CALL_ID, ARGS, '{']);
  #state: 'name' | 'id' | 'json' = 'name';
  #name = '';
  #isInJson = false;

  constructor(sink: CallSink) {
    this.#sink = sink;
  }

  push(character: string): ReaderStatus {
    if (this.#state === 'json') return this.#readJson(character);
    const { text, marker } = this.#scanner.push(character);
    if (this.#state === 'name') this.#name += text;
    else if (!mayBeName(text)) return 'refused';
    if (!mayBeName(this.#name)) return 'refused';
    if (marker === null) return 'more';
    if (marker === CALL_ID) {
      this.#state = 'id';
      return 'more';
    }
    const name = this.#name.trim();
    if (name === '' || !this.#sink.begin(name)) return 'refused';
    this.#state = 'json';
    return marker === '{' ? this.#readJson('{') : 'more';
  }

  end(): 'refused' {
    return 'refused';
  }

  #readJson(character: string): ReaderStatus {
    if (!this.#isInJson && isBlank(character)) return 'more';
    if (!this.#isInJson && character !== '{') return 'refused';
    this.#isInJson = true;
    const status = this.#json.push(character);
    if (status === 'bad') return 'refused';
    this.#sink.arguments(character);
    if (status === 'more') return 'more';
    return this.#sink.finish() ? 'done' : 'refused';
  }
}

/** Mistral: [TOOL_CALLS] and an array of {"name", "arguments", "id"}; in later versions [TOOL_CALLS]name[ARGS]{...}. */
export const mistral: Dialect = {
  name: 'mistral',
  calls: {
    openers: [TOOL_CALLS],
    opensUnmarked: 'never',
    turn: null,
    separator: null,
    makeReader: (sink) =>
      new FirstCharacterReader((first) =>
        first === '[' || first === '{'
          ? new JsonCallReader(sink, { closer: '', takesArray: true, isStrict: false })
          : new NameFirstReader(sink),
      ),
  },
  controlTokens: [TOOL_CALLS, ARGS, CALL_ID],
  beginsWithNewline: false,
  reasonsOnLines: false,
  emptyReasoning: '',
  idLength: 9,
  callHead(tool, template) {
    if (tool === null) return TOOL_CALLS;
    // The old form differs by a space between versions of the tokenizer.
    return template.includes(ARGS) ? `${TOOL_CALLS}${tool}${ARGS}` : null;
  },
};
