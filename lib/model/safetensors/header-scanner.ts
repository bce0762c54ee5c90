import { invalidModelFile, quoted } from '../model-file-error';

export interface HeaderEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface ScannedHeader {
  readonly entries: readonly HeaderEntry[];
  readonly metadata: ReadonlyMap<string, string>;
}

/** More dims than any framework writes; a shape costs memory per number. */
const MAX_DIMS = 64;
const SPACES = ' \t\n\r';
/** The first character that JSON allows in a string; NaN, the code past the end, is not above it. */
const FIRST_PRINTABLE = 0x20;
const LONE_SURROGATE = /\p{Surrogate}/u;
const NATURAL = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y;

/**
 * Reads the JSON header of a safetensors file and nothing else: {name: {dtype, shape, data_offsets}, ...} and
 * __metadata__. Knowing the shape, it needs no recursion, sees duplicate names (JSON.parse keeps the last in silence)
 * and costs no more than the header's bytes.
 */
export function scanHeader(file: string, text: string, maxTensors: number): ScannedHeader {
  return new HeaderScanner(file, text, maxTensors).scan();
}

class HeaderScanner {
  readonly #file: string;
  readonly #text: string;
  readonly #maxTensors: number;
  #position = 0;

  constructor(file: string, text: string, maxTensors: number) {
    this.#file = file;
    this.#text = text;
    this.#maxTensors = maxTensors;
  }

  scan(): ScannedHeader {
    // Before any space is skipped: the format wants the brace first.
    if (!this.#text.startsWith('{')) throw this.#fault('header', '"{" as its first byte');
    const entries: HeaderEntry[] = [];
    const names = new Set<string>();
    let metadata: ReadonlyMap<string, string> = new Map();
    this.#object((name) => {
      if (names.has(name)) throw this.#fault('header', `each name once, not ${quoted(name)} again`);
      names.add(name);
      if (name === '__metadata__') metadata = this.#metadata();
      else entries.push(this.#entry(name));
      if (entries.length > this.#maxTensors)
        throw this.#fault('header', `at most ${this.#maxTensors} tensors`);
    }, 'header');
    this.#skipSpace();
    if (this.#position !== this.#text.length) throw this.#fault('header', 'its end');
    return { entries, metadata };
  }

  #metadata(): ReadonlyMap<string, string> {
    const metadata = new Map<string, string>();
    this.#object((key) => {
      metadata.set(key, this.#string('__metadata__'));
    }, '__metadata__');
    return metadata;
  }

  #entry(name: string): HeaderEntry {
    const where = `tensor ${quoted(name)}`;
    let dtype: string | null = null;
    let shape: readonly number[] | null = null;
    let offsets: readonly number[] | null = null;
    this.#object((field) => {
      if (field === 'dtype' && dtype === null) dtype = this.#string(where);
      else if (field === 'shape' && shape === null) shape = this.#naturals(where, MAX_DIMS);
      else if (field === 'data_offsets' && offsets === null) offsets = this.#naturals(where, 2);
      else throw this.#fault(where, `dtype, shape and data_offsets once each, not ${quoted(field)}`);
    }, where);
    const [begin, end] = (offsets ?? []) as readonly number[];
    if (dtype === null || shape === null || begin === undefined || end === undefined) {
      throw this.#fault(where, 'dtype, shape and two data_offsets before the brace');
    }
    return { name, dtype, shape, begin, end };
  }

  /** Calls `member` with each key; it must read the value. */
  #object(member: (key: string) => void, where: string): void {
    this.#expect('{', where);
    if (this.#accept('}')) return;
    do {
      const key = this.#string(where);
      this.#expect(':', where);
      member(key);
    } while (this.#accept(','));
    this.#expect('}', where);
  }

  #naturals(where: string, maxLength: number): readonly number[] {
    this.#expect('[', where);
    const values: number[] = [];
    if (this.#accept(']')) return values;
    do {
      if (values.length === maxLength) throw this.#fault(where, `at most ${maxLength} numbers`);
      values.push(this.#natural(where));
    } while (this.#accept(','));
    this.#expect(']', where);
    return values;
  }

  #string(where: string): string {
    this.#skipSpace();
    const start = this.#position;
    if (this.#text[start] !== '"') throw this.#fault(where, 'a string');
    let hasEscapes = false;
    let end = start + 1;
    for (; this.#text[end] !== '"'; end += 1) {
      const code = this.#text.charCodeAt(end);
      if (!(code >= FIRST_PRINTABLE)) throw this.#fault(where, 'a string that ends with a quote');
      if (this.#text[end] === '\\') {
        hasEscapes = true;
        end += 1;
      }
    }
    this.#position = end + 1;
    return hasEscapes ? this.#unescaped(start, where) : this.#text.slice(start + 1, end);
  }

  #unescaped(start: number, where: string): string {
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(start, this.#position)) as string;
    } catch {
      this.#position = start;
      throw this.#fault(where, 'a string with escapes as in JSON');
    }
    if (LONE_SURROGATE.test(value)) throw this.#fault(where, 'a string without lone surrogates');
    return value;
  }

  #natural(where: string): number {
    this.#skipSpace();
    NATURAL.lastIndex = this.#position;
    const digits = NATURAL.exec(this.#text)?.[0];
    const value = Number(digits);
    if (!Number.isSafeInteger(value)) throw this.#fault(where, 'a whole number up to 2^53');
    this.#position = NATURAL.lastIndex;
    return value;
  }

  #accept(char: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#position] !== char) return false;
    this.#position += 1;
    return true;
  }

  #expect(char: string, where: string): void {
    if (!this.#accept(char)) throw this.#fault(where, `"${char}"`);
  }

  #skipSpace(): void {
    while (SPACES.includes(this.#text[this.#position] ?? '-')) this.#position += 1;
  }

  #fault(where: string, expected: string) {
    const found = this.#text.slice(this.#position, this.#position + 20);
    return invalidModelFile({
      file: this.#file,
      where: `${where}, character ${this.#position} of the header`,
      expected,
      found: found === '' ? 'its end' : quoted(found),
    });
  }
}
