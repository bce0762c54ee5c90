import { type CallReader, type CallSink, isBlank, type ReaderStatus } from './call-reader';
import { JsonValueScanner, parseJson } from './json-value';

export interface JsonCallOptions {
  /** Text that follows the calls and belongs to them; empty when the JSON text itself ends them. */
  readonly closer: string;
  /** Calls may stand in an array. */
  readonly takesArray: boolean;
  /** Keys other than those of a call mean that it is none. */
  readonly isStrict: boolean;
}

type State = 'start' | 'key' | 'colon' | 'value' | 'afterValue' | 'afterCall' | 'closer';

const ARGUMENT_KEYS = new Set(['arguments', 'parameters']);
const OTHER_KEYS = new Set(['type', 'id']);
/** Of one key or skipped value. A model that writes on and on without a call is not held back longer. */
const MAX_SKIPPED_LENGTH = 4096;

/** Reads calls of the form {"name": ..., "arguments": {...}}, in any order of keys, alone or in an array. */
export class JsonCallReader implements CallReader {
  readonly #sink: CallSink;
  readonly #options: JsonCallOptions;
  #state: State = 'start';
  #isInArray = false;
  #scanner = new JsonValueScanner();
  /** Text of the key or value being read; of arguments only while they cannot be passed on. */
  #text = '';
  #key = '';
  #name: string | null = null;
  #hasBegun = false;
  /** Null before the arguments were seen. */
  #arguments: { held: string; isObject: boolean } | null = null;
  #closerLength = 0;

  constructor(sink: CallSink, options: JsonCallOptions) {
    this.#sink = sink;
    this.#options = options;
  }

  push(character: string): ReaderStatus {
    switch (this.#state) {
      case 'start':
        return this.#start(character);
      case 'key':
        return this.#readKey(character);
      case 'colon':
        if (isBlank(character)) return 'more';
        this.#state = 'value';
        this.#scanner = new JsonValueScanner();
        return character === ':' ? 'more' : 'refused';
      case 'value':
        return this.#readValue(character);
      case 'afterValue':
        return this.#afterValue(character);
      case 'afterCall':
        return this.#afterCall(character);
      case 'closer':
        return this.#readCloser(character);
    }
  }

  /** A missing closer is no loss: the call before it is whole. */
  end(): 'done' | 'refused' {
    return this.#state === 'closer' ? 'done' : 'refused';
  }

  #start(character: string): ReaderStatus {
    if (isBlank(character)) return 'more';
    if (character === '[' && this.#options.takesArray && !this.#isInArray) {
      this.#isInArray = true;
      return 'more';
    }
    if (character !== '{') return 'refused';
    this.#name = null;
    this.#hasBegun = false;
    this.#arguments = null;
    this.#expectKey();
    return 'more';
  }

  #expectKey(): void {
    this.#state = 'key';
    this.#text = '';
    this.#scanner = new JsonValueScanner();
  }

  #readKey(character: string): ReaderStatus {
    if (this.#text === '' && isBlank(character)) return 'more';
    if (this.#text === '' && character === '}') return this.#endCall();
    if (this.#text === '' && character !== '"') return 'refused';
    this.#text += character;
    if (this.#text.length > MAX_SKIPPED_LENGTH) return 'refused';
    if (this.#scanner.push(character) !== 'done') return 'more';
    const key = parseJson(this.#text);
    if (typeof key !== 'string') return 'refused';
    const isKnown = key === 'name' || ARGUMENT_KEYS.has(key) || OTHER_KEYS.has(key);
    if (this.#options.isStrict && !isKnown) return 'refused';
    this.#key = key;
    this.#state = 'colon';
    this.#text = '';
    return 'more';
  }

  #readValue(character: string): ReaderStatus {
    const status = this.#scanner.push(character);
    if (status === 'bad') return 'refused';
    if (status !== 'after' && !this.#takeValueText(character)) return 'refused';
    if (status === 'more') return 'more';
    this.#state = 'afterValue';
    if (!this.#endValue()) return 'refused';
    return status === 'after' ? this.#afterValue(character) : 'more';
  }

  /** Arguments that are an object go on as they come, once the name is known. */
  #takeValueText(character: string): boolean {
    if (ARGUMENT_KEYS.has(this.#key)) {
      if (this.#text === '' && isBlank(character)) return true;
      if (this.#text === '') {
        if (this.#arguments !== null) return false;
        this.#arguments = { held: '', isObject: character === '{' };
        this.#text = character;
      }
      const found = this.#arguments as { held: string; isObject: boolean };
      if (this.#hasBegun && found.isObject) this.#sink.arguments(character);
      else found.held += character;
      return true;
    }
    this.#text += character;
    return this.#text.length <= MAX_SKIPPED_LENGTH;
  }

  #endValue(): boolean {
    if (ARGUMENT_KEYS.has(this.#key)) {
      const found = this.#arguments;
      if (found === null || found.isObject) return found !== null;
      const value = parseJson(found.held);
      // Some models write the object as a string of JSON, and null for no arguments.
      if (typeof value === 'string') found.held = value.trim() === '' ? '{}' : value;
      else if (value === null) found.held = '{}';
      this.#passHeld();
      return true;
    }
    const value = parseJson(this.#text);
    if (this.#key !== 'name') return value !== undefined;
    if (typeof value !== 'string' || value === '' || this.#hasBegun) return false;
    this.#name = value;
    if (!this.#sink.begin(value)) return false;
    this.#hasBegun = true;
    this.#passHeld();
    return true;
  }

  #passHeld(): void {
    const found = this.#arguments;
    if (!this.#hasBegun || found === null || found.held === '') return;
    this.#sink.arguments(found.held);
    found.held = '';
  }

  #afterValue(character: string): ReaderStatus {
    if (isBlank(character)) return 'more';
    if (character === '}') return this.#endCall();
    if (character !== ',') return 'refused';
    this.#expectKey();
    return 'more';
  }

  #endCall(): ReaderStatus {
    if (this.#name === null) return 'refused';
    if (this.#arguments === null) this.#sink.arguments('{}');
    if (!this.#sink.finish()) return 'refused';
    if (this.#isInArray) {
      this.#state = 'afterCall';
      return 'more';
    }
    return this.#endAll();
  }

  #endAll(): ReaderStatus {
    this.#state = 'closer';
    return this.#options.closer === '' ? 'done' : 'more';
  }

  #afterCall(character: string): ReaderStatus {
    if (isBlank(character)) return 'more';
    if (character === ']') return this.#endAll();
    if (character !== ',') return 'refused';
    this.#state = 'start';
    return 'more';
  }

  #readCloser(character: string): ReaderStatus {
    if (this.#closerLength === 0 && isBlank(character)) return 'more';
    const { closer } = this.#options;
    if (character !== closer[this.#closerLength]) return 'refused';
    this.#closerLength += 1;
    return this.#closerLength === closer.length ? 'done' : 'more';
  }
}
