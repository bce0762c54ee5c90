import type { WordLevelModelJson } from '../vocabulary/tokenizer-json';
import type { TextModel } from './text-model';

/** WordLevel: each word is a token, or unknown. */
export class WholeWordModel implements TextModel {
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #unknown: number | null;
  readonly #hidden: ReadonlySet<number>;

  constructor(json: WordLevelModelJson, hidden: ReadonlySet<number>) {
    this.#vocab = json.vocab;
    this.#unknown = json.vocab.get(json.unk_token) ?? null;
    this.#hidden = hidden;
  }

  encode(word: string, ids: number[]): boolean {
    const id = this.#vocab.get(word);
    const chosen = id === undefined || this.#hidden.has(id) ? this.#unknown : id;
    if (chosen === null) return false;
    ids.push(chosen);
    return true;
  }
}
