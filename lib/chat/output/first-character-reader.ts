import { type CallReader, isBlank, type ReaderStatus } from './call-reader';

/** Calls of several forms behind one marker: the first character that is not blank tells which reader takes them. */
export class FirstCharacterReader implements CallReader {
  readonly #make: (first: string) => CallReader;
  #reader: CallReader | null = null;

  constructor(make: (first: string) => CallReader) {
    this.#make = make;
  }

  push(character: string): ReaderStatus {
    if (this.#reader === null && isBlank(character)) return 'more';
    this.#reader ??= this.#make(character);
    return this.#reader.push(character);
  }

  end(): 'done' | 'refused' {
    return this.#reader?.end() ?? 'refused';
  }
}
