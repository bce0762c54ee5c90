import { isBlank } from './call-reader';

/** `after`: the value ended before this character. */
export type JsonStatus = 'more' | 'done' | 'after' | 'bad';

/**
 * Finds the end of one JSON value in text that comes character by character. Brackets and strings are followed, the
 * grammar between them is left to JSON.parse.
 */
export class JsonValueScanner {
  /** Closing brackets that are due. */
  readonly #closers: string[] = [];
  #kind: 'none' | 'scalar' | 'string' | 'nested' = 'none';
  #isInString = false;
  #isEscaped = false;

  push(character: string): JsonStatus {
    if (this.#isInString) return this.#inString(character);
    if (this.#kind === 'none') return this.#first(character);
    if (this.#kind === 'scalar') return /[-+.\w]/.test(character) ? 'more' : 'after';
    return this.#nested(character);
  }

  #first(character: string): JsonStatus {
    if (isBlank(character)) return 'more';
    if (character === '"') {
      this.#kind = 'string';
      this.#isInString = true;
      return 'more';
    }
    if (character === '{' || character === '[') {
      this.#kind = 'nested';
      return this.#nested(character);
    }
    this.#kind = 'scalar';
    return /[-\w]/.test(character) ? 'more' : 'bad';
  }

  #inString(character: string): JsonStatus {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (character === '\\') this.#isEscaped = true;
    else if (character === '"') {
      this.#isInString = false;
      return this.#kind === 'string' ? 'done' : 'more';
    }
    return 'more';
  }

  #nested(character: string): JsonStatus {
    if (character === '"') this.#isInString = true;
    else if (character === '{') this.#closers.push('}');
    else if (character === '[') this.#closers.push(']');
    else if (character === '}' || character === ']') {
      if (this.#closers.pop() !== character) return 'bad';
      return this.#closers.length === 0 ? 'done' : 'more';
    }
    return 'more';
  }
}

/** The value of a JSON text, undefined when it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
