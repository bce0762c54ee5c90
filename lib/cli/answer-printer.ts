import type { AnswerPiece } from './chat-session';
import { colors } from './terminal';

/** Writes answers to standard output and the model's thoughts, dimmed, to standard error. */
export class AnswerPrinter {
  readonly #showsThoughts: boolean;
  #isThinking = false;

  constructor(showsThoughts: boolean) {
    this.#showsThoughts = showsThoughts;
  }

  write({ type, text }: AnswerPiece): void {
    if (text === '' || (type === 'reasoning' && !this.#showsThoughts)) return;
    if (type === 'text') {
      this.end();
      process.stdout.write(text);
    } else {
      this.#isThinking = true;
      process.stderr.write(colors.dim(text));
    }
  }

  /** Ends the line of thoughts that are not followed by an answer. */
  end(): void {
    if (this.#isThinking) process.stderr.write('\n');
    this.#isThinking = false;
  }
}
