import type { ToolDefinition } from '../tool-types';

/** `done`: the last character ended the calls. `refused`: it cannot be part of one. */
export type ReaderStatus = 'more' | 'done' | 'refused';

/** Where a reader puts what it understood. */
export interface CallSink {
  /** False when there must be no call of that name here; the reader then refuses. */
  begin(name: string): boolean;
  /** More of the JSON text of the arguments. */
  arguments(delta: string): void;
  /** The call is whole. False when its arguments are no JSON object; the reader then refuses. */
  finish(): boolean;
}

/** Reads calls character by character, from after the marker that opens them. */
export interface CallReader {
  push(character: string): ReaderStatus;
  /** No more text comes: `done` when that ends the calls, else `refused`. */
  end(): 'done' | 'refused';
}

/** `opener` is the marker before the calls; empty where calls need none. */
export type CallReaderMaker = (
  sink: CallSink,
  tools: readonly ToolDefinition[],
  opener: string,
) => CallReader;

/** Longer names are no names: what a model writes instead of a call must not be held back for long. */
const MAX_NAME_LENGTH = 128;

export const isBlank = (character: string): boolean => /^\s$/.test(character);

/** Whether text can still become a name. */
export const mayBeName = (text: string): boolean =>
  text.length <= MAX_NAME_LENGTH && /^[\w.:/-]*$/.test(text.trim());

/** Follows a fixed text whose words may have white space before them. */
export class FixedText {
  readonly #words: readonly string[];
  #word = 0;
  #length = 0;

  constructor(...words: readonly string[]) {
    this.#words = words;
  }

  push(character: string): ReaderStatus {
    const word = this.#words[this.#word] ?? '';
    if (this.#length === 0 && isBlank(character)) return 'more';
    if (character !== word[this.#length]) return 'refused';
    this.#length += 1;
    if (this.#length < word.length) return 'more';
    this.#word += 1;
    this.#length = 0;
    return this.#word === this.#words.length ? 'done' : 'more';
  }
}
