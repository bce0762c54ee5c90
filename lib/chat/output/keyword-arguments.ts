import type { ArgumentWriter } from './argument-writer';
import { isBlank } from './call-reader';
import { parsePythonLiteral } from './python-literal';

/** Reads Python's keyword arguments, from after the opening bracket of a call to its closing one. */
export class KeywordArguments {
  readonly #writer: ArgumentWriter;
  #key = '';
  /** Null while a key is read. */
  #value: string | null = null;
  #depth = 0;
  #quote = '';
  #isEscaped = false;

  constructor(writer: ArgumentWriter) {
    this.#writer = writer;
  }

  push(character: string): 'more' | 'done' | 'refused' {
    if (this.#value === null) return this.#readKey(character);
    if (this.#quote !== '') {
      this.#value += character;
      if (this.#isEscaped) this.#isEscaped = false;
      else if (character === '\\') this.#isEscaped = true;
      else if (character === this.#quote) this.#quote = '';
      return 'more';
    }
    const endsValue = this.#depth === 0 && (character === ',' || character === ')');
    if (!endsValue) {
      this.#value += character;
      if (character === '"' || character === "'") this.#quote = character;
      else if ('([{'.includes(character)) this.#depth += 1;
      else if (')]}'.includes(character)) this.#depth -= 1;
      return this.#depth < 0 ? 'refused' : 'more';
    }
    const value = parsePythonLiteral(this.#value);
    if (value === undefined) return 'refused';
    this.#writer.value(this.#key, JSON.stringify(value));
    this.#key = '';
    this.#value = null;
    return character === ')' ? this.#end() : 'more';
  }

  #readKey(character: string): 'more' | 'done' | 'refused' {
    if (isBlank(character)) return 'more';
    if (character === ')' && this.#key === '') return this.#end();
    if (character === '=' && this.#key !== '') {
      this.#value = '';
      return 'more';
    }
    this.#key += character;
    return /^[^\W\d]\w{0,255}$/.test(this.#key) ? 'more' : 'refused';
  }

  #end(): 'done' {
    this.#writer.end();
    return 'done';
  }
}
