interface TrieNode<Value> {
  readonly next: Map<number, TrieNode<Value>>;
  value: Value | null;
}

/** Finds the longest of many strings at a place of a text, in time that does not depend on how many there are. */
export class StringTrie<Value> {
  readonly #root: TrieNode<Value> = { next: new Map(), value: null };

  /** Empty strings match nowhere. */
  add(content: string, value: Value): void {
    let node = this.#root;
    for (let i = 0; i < content.length; i += 1) {
      const unit = content.charCodeAt(i);
      let next = node.next.get(unit);
      if (next === undefined) {
        next = { next: new Map(), value: null };
        node.next.set(unit, next);
      }
      node = next;
    }
    if (node !== this.#root) node.value = value;
  }

  /** The value of the longest string that starts at `start`, ends by `end` and is accepted; null when there is none. */
  longestAt(
    text: string,
    start: number,
    end: number,
    accepts: (value: Value, text: string, start: number) => boolean,
  ): Value | null {
    let node: TrieNode<Value> | undefined = this.#root;
    let longest: Value | null = null;
    for (let i = start; i < end; i += 1) {
      node = node.next.get(text.charCodeAt(i));
      if (node === undefined) break;
      if (node.value !== null && accepts(node.value, text, start)) longest = node.value;
    }
    return longest;
  }

  /** Whether the text from `start` to its end is the beginning of one of the strings. */
  isPrefixAt(text: string, start: number): boolean {
    let node: TrieNode<Value> | undefined = this.#root;
    for (let i = start; i < text.length; i += 1) {
      node = node.next.get(text.charCodeAt(i));
      if (node === undefined) return false;
    }
    return node.next.size > 0;
  }
}
