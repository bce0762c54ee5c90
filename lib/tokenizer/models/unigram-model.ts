import type { UnigramModelJson } from '../vocabulary/tokenizer-json';
import { byteTokens, pushBytes } from './byte-tokens';
import type { TextModel } from './text-model';

/** How much worse an unknown character is than the least likely piece. Source: sentencepiece, unigram_model. */
const UNKNOWN_PENALTY = 10;
const NOTHING = -1;

/**
 * Unigram language model: of all ways to cut a text into pieces the one with the greatest sum of scores (Viterbi). Pieces
 * are found in a trie, so that a text of n characters takes n times the longest piece at most.
 * Source: T. Kudo, "Subword regularization", 2018.
 */
export class UnigramModel implements TextModel {
  readonly #json: UnigramModelJson;
  readonly #trie: PieceTrie;
  readonly #scores: Float64Array;
  readonly #bytes: Int32Array | null;
  readonly #unknownScore: number;

  constructor(json: UnigramModelJson, hidden: ReadonlySet<number>) {
    this.#json = json;
    this.#bytes = json.byte_fallback ? byteTokens(json.vocab) : null;
    this.#trie = new PieceTrie();
    let lowest = Number.POSITIVE_INFINITY;
    // The reference begins at the smallest positive float, so that scores below zero leave it there.
    let highest = 2 ** -126;
    for (const id of json.vocab.values()) {
      const score = json.scores[id] as number;
      if (!json.isScored(id)) continue;
      lowest = Math.min(lowest, score);
      highest = Math.max(highest, score);
    }
    this.#unknownScore = this.#round((lowest === Number.POSITIVE_INFINITY ? 0 : lowest) - UNKNOWN_PENALTY);
    this.#scores = Float64Array.from(json.scores);
    const bytes = new Set(this.#bytes ?? []);
    for (const [piece, id] of json.vocab) {
      if (hidden.has(id) || bytes.has(id) || id === json.unk_id || json.unused.has(id)) continue;
      this.#trie.add(piece, id);
    }
    // A user-defined symbol beats every other way to write it.
    for (const symbol of json.userDefined) {
      const id = json.vocab.get(symbol) as number;
      this.#scores[id] = this.#round(Buffer.byteLength(symbol) * highest) - 0.1;
    }
  }

  /** SentencePiece keeps sums in 32 bits but compares them before they are rounded: near-ties depend on it. */
  #round(score: number): number {
    return this.#json.isSinglePrecision ? Math.fround(score) : score;
  }

  encode(word: string, ids: number[]): boolean {
    return this.#write(word, this.#bestCut(word), ids);
  }

  /** For each place the piece that ends there on the best way: its start and, after all of those, its id. */
  #bestCut(word: string): Int32Array {
    const length = word.length;
    const best = new Float64Array(length + 1);
    const cut = new Int32Array(2 * (length + 1)).fill(NOTHING);
    for (let start = 0; start < length; ) {
      const unit = word.charCodeAt(start);
      const characterEnd = start + ((unit & 0xfc00) === 0xd800 ? 2 : 1);
      const before = best[start] as number;
      const take = (end: number, id: number, score: number): void => {
        const total = before + score;
        if (cut[end] !== NOTHING && !(total > (best[end] as number))) return;
        best[end] = this.#round(total);
        cut[end] = start;
        cut[length + 1 + end] = id;
      };
      let hasCharacter = false;
      let node = 0;
      for (let end = start; end < length; ) {
        node = this.#trie.child(node, word.charCodeAt(end));
        if (node === NOTHING) break;
        end += 1;
        const id = this.#trie.idAt(node);
        if (id === NOTHING) continue;
        take(end, id, this.#scores[id] as number);
        if (end === characterEnd) hasCharacter = true;
      }
      if (!hasCharacter) take(characterEnd, NOTHING, this.#unknownScore);
      start = characterEnd;
    }
    return cut;
  }

  /** Unknown characters in a row are one unknown token, or their bytes. */
  #write(word: string, cut: Int32Array, ids: number[]): boolean {
    const numPlaces = word.length + 1;
    const ends: number[] = [];
    for (let end = word.length; end > 0; end = cut[end] as number) ends.push(end);
    let wasUnknown = false;
    for (let i = ends.length - 1; i >= 0; i -= 1) {
      const end = ends[i] as number;
      const id = cut[numPlaces + end] as number;
      if (id !== NOTHING) ids.push(id);
      else if (this.#bytes !== null) pushBytes(word.slice(cut[end], end), this.#bytes, ids);
      else if (this.#json.unk_id === null) return false;
      else if (!wasUnknown) ids.push(this.#json.unk_id);
      wasUnknown = id === NOTHING;
    }
    return true;
  }
}

/** Pieces by their UTF-16 units: the children of all nodes in one map, by node and unit. */
class PieceTrie {
  readonly #children = new Map<number, number>();
  readonly #ids: number[] = [NOTHING];

  add(piece: string, id: number): void {
    let node = 0;
    for (let i = 0; i < piece.length; i += 1) {
      const key = node * 0x10000 + piece.charCodeAt(i);
      let child = this.#children.get(key);
      if (child === undefined) {
        child = this.#ids.push(NOTHING) - 1;
        this.#children.set(key, child);
      }
      node = child;
    }
    if (node !== 0) this.#ids[node] = id;
  }

  child(node: number, unit: number): number {
    return this.#children.get(node * 0x10000 + unit) ?? NOTHING;
  }

  idAt(node: number): number {
    return this.#ids[node] as number;
  }
}
