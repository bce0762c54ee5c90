import type { TextModel } from './text-model';

/** Words that are kept. Most texts have a few thousand different ones; hostile ones fill the cache and it is begun anew. */
const MAX_WORDS = 16_384;
/** UTF-16 units: longer words hardly ever come back. */
const MAX_WORD_LENGTH = 48;

/** Keeps the token ids of words that were met lately. */
export class CachedModel implements TextModel {
  readonly #model: TextModel;
  readonly #ids = new Map<string, readonly number[]>();

  constructor(model: TextModel) {
    this.#model = model;
  }

  encode(word: string, ids: number[]): boolean {
    if (word.length > MAX_WORD_LENGTH) return this.#model.encode(word, ids);
    const known = this.#ids.get(word);
    if (known !== undefined) {
      for (let i = 0; i < known.length; i += 1) ids.push(known[i] as number);
      return true;
    }
    const first = ids.length;
    if (!this.#model.encode(word, ids)) return false;
    if (this.#ids.size >= MAX_WORDS) this.#ids.clear();
    this.#ids.set(word, ids.slice(first));
    return true;
  }
}
