import { StringTrie } from '../string-trie';
import type { BpeModelJson } from '../vocabulary/tokenizer-json';
import { byteTokens } from './byte-tokens';
import { NumberHeap } from './number-heap';
import { PairTable } from './pair-table';
import type { TextModel } from './text-model';

/** More than there are positions in a word: the heap orders by rank, then position, in one number. */
const POSITIONS = 2 ** 31;
const NOTHING = -1;
/** Symbols that no merge takes: several unknown characters in a row are one of them where the file says so. */
const UNKNOWN = -2;

/**
 * Byte-pair encoding: neighbours are joined in the order of their merges' ranks, the leftmost first among equals, until no
 * merge applies. Symbols form a linked list and possible merges a heap, so that a word of n symbols takes O(n log n).
 * Source: R. Sennrich, B. Haddow, A. Birch, "Neural machine translation of rare words with subword units", 2016.
 */
export class BpeModel implements TextModel {
  readonly #json: BpeModelJson;
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #hidden: ReadonlySet<number>;
  readonly #pairs: PairTable;
  readonly #bytes: Int32Array | null;
  readonly #unknown: number;
  /** Of pieces of one UTF-16 unit, by that unit. */
  readonly #idOfUnit = new Int32Array(0x10000).fill(NOTHING);
  readonly #userDefined: StringTrie<string> | null;
  readonly #heap = new NumberHeap();
  #symbols = new Int32Array(64);
  #next = new Int32Array(64);
  #previous = new Int32Array(64);
  /** Rank of the merge of a symbol with its right neighbour. */
  #ranks = new Int32Array(64);
  #length = 0;

  constructor(json: BpeModelJson, hidden: ReadonlySet<number>) {
    this.#json = json;
    this.#vocab = json.vocab;
    this.#hidden = hidden;
    this.#bytes = json.byte_fallback ? byteTokens(json.vocab) : null;
    this.#unknown = json.unk_token === null ? NOTHING : (json.vocab.get(json.unk_token) ?? NOTHING);
    const { pairs, ranks } = json.merges;
    this.#pairs = new PairTable(ranks.length);
    for (const [i, rank] of ranks.entries()) {
      const result = pairs[3 * i + 2] as number;
      if (!hidden.has(result)) {
        this.#pairs.set(pairs[3 * i] as number, pairs[3 * i + 1] as number, rank, result);
      }
    }
    for (const [piece, id] of json.vocab) {
      if (piece.length === 1 && !hidden.has(id)) this.#idOfUnit[piece.charCodeAt(0)] = id;
    }
    this.#userDefined = json.userDefined.length === 0 ? null : new StringTrie();
    for (const symbol of json.userDefined) this.#userDefined?.add(symbol, symbol);
  }

  encode(word: string, ids: number[]): boolean {
    const whole = this.#json.ignore_merges ? this.#idOf(word) : NOTHING;
    if (whole !== NOTHING) ids.push(whole);
    else {
      if (!this.#split(word)) return false;
      this.#merge(ids);
    }
    return true;
  }

  #idOf(piece: string): number {
    const id = this.#vocab.get(piece);
    return id === undefined || this.#hidden.has(id) ? NOTHING : id;
  }

  /** Fills the list with the symbols of a word's characters. */
  #split(word: string): boolean {
    this.#grow(word.length);
    this.#length = 0;
    const { continuing_subword_prefix: prefix, end_of_word_suffix: suffix } = this.#json;
    const isPlain = prefix === '' && suffix === '';
    for (let i = 0; i < word.length; ) {
      const symbol = this.#userDefined?.longestAt(word, i, word.length, () => true) ?? null;
      if (symbol !== null) {
        // The complement of its id: a symbol that no merge takes.
        this.#push(-3 - (this.#vocab.get(symbol) as number));
        i += symbol.length;
        continue;
      }
      const unit = word.charCodeAt(i);
      const length = (unit & 0xfc00) === 0xd800 ? 2 : 1;
      let id: number;
      if (isPlain && length === 1) id = this.#idOfUnit[unit] as number;
      else {
        const isLast = i + length >= word.length;
        const character = word.slice(i, i + length);
        id = this.#idOf((i === 0 ? '' : prefix) + character + (isLast ? suffix : ''));
      }
      if (id !== NOTHING) this.#push(id);
      else if (!this.#pushUnknown(word.slice(i, i + length))) return false;
      i += length;
    }
    return true;
  }

  #pushUnknown(character: string): boolean {
    if (this.#bytes !== null) {
      for (const byte of Buffer.from(character)) this.#push(this.#bytes[byte] as number);
      return true;
    }
    if (this.#unknown === NOTHING) return false;
    const isRun = this.#json.fuse_unk && this.#length > 0 && this.#symbols[this.#length - 1] === UNKNOWN;
    if (!isRun) this.#push(UNKNOWN);
    return true;
  }

  #push(symbol: number): void {
    if (this.#length === this.#symbols.length) this.#grow(2 * this.#length);
    this.#symbols[this.#length] = symbol;
    this.#length += 1;
  }

  #grow(length: number): void {
    if (length <= this.#symbols.length) return;
    const symbols = new Int32Array(length);
    symbols.set(this.#symbols);
    this.#symbols = symbols;
    this.#next = new Int32Array(length);
    this.#previous = new Int32Array(length);
    this.#ranks = new Int32Array(length);
  }

  #merge(ids: number[]): void {
    const symbols = this.#symbols;
    const next = this.#next;
    const previous = this.#previous;
    const length = this.#length;
    this.#heap.clear();
    for (let i = 0; i < length; i += 1) {
      next[i] = i + 1 < length ? i + 1 : NOTHING;
      previous[i] = i - 1;
    }
    for (let i = 0; i < length; i += 1) this.#offer(i);
    /** Results that are unused pieces, and what they were made of. */
    const parts = this.#json.unused.size === 0 ? null : new Map<number, readonly [number, number]>();
    while (this.#heap.length > 0) {
      const key = this.#heap.pop();
      const rank = Math.floor(key / POSITIONS);
      const at = key - rank * POSITIONS;
      // A merge that another one overtook: its place has another rank by now.
      if (this.#ranks[at] !== rank) continue;
      const right = next[at] as number;
      const result = this.#pairs.resultAt(this.#pairs.place(symbols[at] as number, symbols[right] as number));
      if (parts !== null && this.#json.unused.has(result)) {
        parts.set(result, [symbols[at] as number, symbols[right] as number]);
      }
      symbols[at] = result;
      const after = next[right] as number;
      next[at] = after;
      if (after !== NOTHING) previous[after] = at;
      this.#ranks[right] = NOTHING;
      this.#offer(at);
      const before = previous[at] as number;
      if (before !== NOTHING) this.#offer(before);
    }
    for (let i = length === 0 ? NOTHING : 0; i !== NOTHING; i = next[i] as number) {
      this.#output(symbols[i] as number, parts, ids);
    }
  }

  /** Notes the merge of the symbol at a place with the one after it. */
  #offer(at: number): void {
    const right = this.#next[at] as number;
    const place =
      right === NOTHING
        ? NOTHING
        : this.#pairs.place(this.#symbols[at] as number, this.#symbols[right] as number);
    const rank = place === NOTHING ? NOTHING : this.#pairs.rankAt(place);
    this.#ranks[at] = rank;
    if (rank !== NOTHING) this.#heap.push(rank * POSITIONS + at);
  }

  #output(symbol: number, parts: ReadonlyMap<number, readonly [number, number]> | null, ids: number[]): void {
    if (symbol === UNKNOWN) ids.push(this.#unknown);
    else if (symbol < UNKNOWN) ids.push(-3 - symbol);
    else {
      const halves = parts?.get(symbol);
      if (halves === undefined) ids.push(symbol);
      else for (const half of halves) this.#output(half, parts, ids);
    }
  }
}
