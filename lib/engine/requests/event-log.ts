import type { OutputPiece } from '../../chat/tool-types';
import type { AutoglmError } from '../../errors';
import { MAX_UNREAD_TOKENS } from '../limits';
import type { GenerateEvent, TokenLogprob, ToolCall, Warning } from '../types';

type FinishEvent = Extract<GenerateEvent, { type: 'finish' }>;
/** A part of the answer; warnings have a list of their own. */
export type AnswerPiece = Exclude<OutputPiece, { type: 'warning' }>;
type Ending = { readonly finish: FinishEvent } | { readonly error: AutoglmError };

/** How far one reader has come. */
interface Cursor {
  numPieces: number;
  numTokens: number;
  numWarnings: number;
  hasEnded: boolean;
}

export interface EventLogOwner {
  /** The fastest reader has taken this many tokens in all; Infinity when someone awaits the result instead. */
  read(numTokens: number): void;
  /** The last reader left before the end. Resolves when the request's slot is free. */
  abandoned(): Promise<void>;
}

/** A promise of the next change, for all readers at once. */
class Change {
  tell: () => void = () => {};
  readonly happened = new Promise<void>((resolve) => {
    this.tell = resolve;
  });
}

/**
 * What a generation has said so far, for any number of readers. Events are not stored: a reader gets all that was added
 * since its last turn as one event, so a slow one sees fewer and longer events, and a late one catches up with the first.
 */
export class EventLog {
  readonly tokens: number[] = [];
  readonly logprobs: TokenLogprob[] = [];
  readonly warnings: Warning[] = [];
  readonly #pieces: AnswerPiece[] = [];
  readonly #owner: EventLogOwner;
  readonly #cursors = new Set<Cursor>();
  #ending: Ending | null = null;
  #isHeld = false;
  #isAwaited = false;
  #numRead = 0;
  #change = new Change();

  constructor(owner: EventLogOwner) {
    this.#owner = owner;
  }

  get text(): string {
    return this.#joined('text');
  }

  get reasoning(): string {
    return this.#joined('reasoning');
  }

  get toolCalls(): readonly ToolCall[] {
    return this.#pieces.flatMap((piece) => (piece.type === 'tool-call' ? [piece.call] : []));
  }

  #joined(type: 'text' | 'reasoning'): string {
    return this.#pieces.map((piece) => (piece.type === type ? piece.text : '')).join('');
  }

  add(pieces: readonly AnswerPiece[], token: number | null, logprob: TokenLogprob | null): void {
    for (const piece of pieces) this.#pieces.push(piece);
    if (token !== null) this.tokens.push(token);
    if (logprob !== null) this.logprobs.push(logprob);
    this.#wake();
  }

  warn(warning: Warning): void {
    this.warnings.push(warning);
    this.#wake();
  }

  /** Nothing more is handed out until `end`: after an abort no token is delivered. */
  hold(): void {
    this.#isHeld = true;
  }

  end(ending: Ending): void {
    this.#ending = ending;
    this.#wake();
  }

  /** Someone wants the result as a whole: from now on the generation does not wait for readers. */
  awaitEnd(): void {
    if (this.#isAwaited) return;
    this.#isAwaited = true;
    this.#owner.read(Number.POSITIVE_INFINITY);
  }

  /** A reader of its own, from the beginning. */
  reader(): AsyncIterableIterator<GenerateEvent> {
    const cursor: Cursor = { numPieces: 0, numTokens: 0, numWarnings: 0, hasEnded: false };
    this.#cursors.add(cursor);
    const next = async (): Promise<IteratorResult<GenerateEvent>> => {
      while (!cursor.hasEnded) {
        const event = this.#take(cursor);
        if (event !== null) return { done: false, value: event };
        await this.#change.happened;
      }
      return { done: true, value: undefined };
    };
    const leave = async (): Promise<IteratorResult<GenerateEvent>> => {
      await this.#leave(cursor);
      return { done: true, value: undefined };
    };
    return {
      next,
      return: leave,
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** The reader's next event, or null when it has to wait. Throws how the generation failed. */
  #take(cursor: Cursor): GenerateEvent | null {
    if (!this.#isHeld) {
      const warning = this.warnings[cursor.numWarnings];
      if (warning !== undefined) {
        cursor.numWarnings += 1;
        return { type: 'warning', warning };
      }
      if (cursor.numPieces < this.#pieces.length || cursor.numTokens < this.tokens.length)
        return this.#takePieces(cursor);
    }
    if (this.#ending === null) return null;
    cursor.hasEnded = true;
    this.#cursors.delete(cursor);
    if ('error' in this.#ending) throw this.#ending.error;
    return this.#ending.finish;
  }

  #takePieces(cursor: Cursor): GenerateEvent {
    const first = this.#pieces[cursor.numPieces];
    if (first?.type === 'tool-call') {
      cursor.numPieces += 1;
      return first;
    }
    const start = cursor.numPieces;
    while (isSameEvent(first, this.#pieces[cursor.numPieces])) cursor.numPieces += 1;
    const pieces = this.#pieces.slice(start, cursor.numPieces);
    return { ...joinedPieces(pieces), ...this.#takeTokens(cursor) };
  }

  #takeTokens(cursor: Cursor): { tokens: readonly number[]; logprobs?: readonly TokenLogprob[] } {
    const tokens = this.tokens.slice(cursor.numTokens);
    const logprobs = this.logprobs.slice(cursor.numTokens); // one per token, or none at all
    cursor.numTokens = this.tokens.length;
    if (!this.#isAwaited && cursor.numTokens > this.#numRead) {
      this.#numRead = cursor.numTokens;
      this.#owner.read(this.#numRead);
    }
    return { tokens, ...(logprobs.length > 0 ? { logprobs } : {}) };
  }

  async #leave(cursor: Cursor): Promise<void> {
    this.#cursors.delete(cursor);
    if (cursor.hasEnded) return;
    cursor.hasEnded = true;
    this.#wake();
    if (this.#ending !== null) return;
    if (this.#cursors.size === 0 && !this.#isAwaited) await this.#owner.abandoned();
  }

  #wake(): void {
    const { tell } = this.#change;
    this.#change = new Change();
    tell();
  }
}

type StreamedPiece = Exclude<AnswerPiece, { type: 'tool-call' }>;

function isSameEvent(first: AnswerPiece | undefined, next: AnswerPiece | undefined): boolean {
  if (first === undefined || next === undefined || first.type !== next.type) return false;
  return first.type !== 'tool-input' || first.id === (next as typeof first).id;
}

/** One piece out of several of one kind; without any, an empty text for tokens that have none yet. */
function joinedPieces(pieces: readonly AnswerPiece[]): StreamedPiece {
  const [first] = pieces;
  if (first?.type === 'tool-input') {
    return { ...first, delta: pieces.map((piece) => (piece as typeof first).delta).join('') };
  }
  const text = pieces.map((piece) => (piece as { readonly text: string }).text).join('');
  return { type: first?.type === 'reasoning' ? 'reasoning' : 'text', text };
}

/** Tokens a reader that has taken `numRead` may be sent before it takes more. */
export const creditFor = (numRead: number): number => numRead + MAX_UNREAD_TOKENS;
