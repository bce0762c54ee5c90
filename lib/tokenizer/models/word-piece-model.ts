import type { WordPieceModelJson } from '../vocabulary/tokenizer-json';
import type { TextModel } from './text-model';

/**
 * WordPiece: the longest piece that a word begins with, then the longest that what is left begins with, and so on; a word
 * that cannot be written so is one unknown token. A place tries as many lengths as the longest piece has.
 */
export class WordPieceModel implements TextModel {
  readonly #json: WordPieceModelJson;
  readonly #unknown: number | null;
  readonly #hidden: ReadonlySet<number>;
  /** UTF-16 units of the longest piece, without the prefix. */
  readonly #longest: number;

  constructor(json: WordPieceModelJson, hidden: ReadonlySet<number>) {
    this.#json = json;
    this.#hidden = hidden;
    this.#unknown = json.vocab.get(json.unk_token) ?? null;
    let longest = 0;
    for (const piece of json.vocab.keys()) longest = Math.max(longest, piece.length);
    this.#longest = longest;
  }

  encode(word: string, ids: number[]): boolean {
    const first = ids.length;
    if (!this.#writePieces(word, ids)) {
      if (this.#unknown === null) return false;
      ids.length = first;
      ids.push(this.#unknown);
    }
    return true;
  }

  #writePieces(word: string, ids: number[]): boolean {
    const { vocab, max_input_chars_per_word: maxCharacters } = this.#json;
    if (word.length > maxCharacters && [...word].length > maxCharacters) return false;
    for (let start = 0; start < word.length; ) {
      const prefix = start === 0 ? '' : this.#json.continuing_subword_prefix;
      let end = Math.min(word.length, start + this.#longest);
      let id: number | undefined;
      for (; end > start; end -= 1) {
        id = vocab.get(prefix + word.slice(start, end));
        if (id !== undefined && !this.#hidden.has(id)) break;
        id = undefined;
      }
      if (id === undefined) return false;
      ids.push(id);
      start = end;
    }
    return true;
  }
}
