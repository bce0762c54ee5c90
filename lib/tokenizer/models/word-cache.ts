/** Words that are kept. Most texts have a few thousand different ones; hostile ones fill the cache and it is begun anew. */
const MAX_WORDS = 16_384;
/** UTF-16 units: longer words hardly ever come back. */
const MAX_WORD_LENGTH = 48;

/** Token ids of words that were met lately. */
export class WordCache {
  readonly #ids = new Map<string, readonly number[]>();

  get(word: string): readonly number[] | null {
    return word.length > MAX_WORD_LENGTH ? null : (this.#ids.get(word) ?? null);
  }

  keep(word: string, ids: readonly number[], first: number): void {
    if (word.length > MAX_WORD_LENGTH) return;
    if (this.#ids.size >= MAX_WORDS) this.#ids.clear();
    this.#ids.set(word, ids.slice(first));
  }
}
