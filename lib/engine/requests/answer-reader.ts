import type { OutputParser } from '../../chat/output/output-parser';
import type { OutputPiece } from '../../chat/tool-types';
import type { StopMatcher } from '../../tokenizer/stop-matcher';
import type { StreamDecoder } from '../../tokenizer/stream-decoder';

export interface AnswerParts {
  readonly pieces: readonly OutputPiece[];
  /** The stop string that ended the answer, or null. */
  readonly stop: string | null;
}

export interface AnswerReaderParts {
  readonly decoder: StreamDecoder;
  /** Null for raw prompts: all of their text is the answer. */
  readonly parser: OutputParser | null;
  readonly stops: StopMatcher;
}

/**
 * Turns tokens into the parts of an answer: bytes to text, text to reasoning, calls and answer. Stop strings are looked for
 * in the answer alone: one in the model's thoughts or in the arguments of a call ends nothing.
 */
export class AnswerReader {
  readonly #decoder: StreamDecoder;
  readonly #parser: OutputParser | null;
  readonly #stops: StopMatcher;

  constructor({ decoder, parser, stops }: AnswerReaderParts) {
    this.#decoder = decoder;
    this.#parser = parser;
    this.#stops = stops;
  }

  get isReasoning(): boolean {
    return this.#parser?.isReasoning ?? false;
  }

  /** What is written in the model's name between its tokens. */
  write(text: string): AnswerParts {
    return this.#match(this.#parse(this.#decoder.end() + text));
  }

  push(token: number): AnswerParts {
    return this.#match(this.#parse(this.#decoder.push([token])));
  }

  end(): AnswerParts {
    const parsed = this.#parse(this.#decoder.end());
    const { pieces, stop } = this.#match([...parsed, ...(this.#parser?.end() ?? [])]);
    return stop === null ? { pieces: [...pieces, ...this.#held()], stop } : { pieces, stop };
  }

  #parse(text: string): readonly OutputPiece[] {
    if (this.#parser !== null) return this.#parser.push(text);
    return text === '' ? [] : [{ type: 'text', text }];
  }

  #match(parsed: readonly OutputPiece[]): AnswerParts {
    const pieces: OutputPiece[] = [];
    for (const piece of parsed) {
      if (piece.type !== 'text') {
        // A stop string does not reach across a call.
        if (piece.type !== 'warning') pieces.push(...this.#held());
        pieces.push(piece);
        continue;
      }
      const { text, stop } = this.#stops.push(piece.text);
      if (text !== '') pieces.push({ type: 'text', text });
      if (stop !== null) return { pieces, stop };
    }
    return { pieces, stop: null };
  }

  #held(): OutputPiece[] {
    const text = this.#stops.end();
    return text === '' ? [] : [{ type: 'text', text }];
  }
}
