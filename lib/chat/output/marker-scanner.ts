export interface Scanned {
  /** Text that belongs to no marker. */
  readonly text: string;
  /** The marker that ends here, or null. */
  readonly marker: string | null;
}

const NOTHING: Scanned = { text: '', marker: null };

/**
 * Finds markers in text that comes character by character; what may be the start of one is held back.
 * No marker may be the beginning of another.
 */
export class MarkerScanner {
  readonly #markers: readonly string[];
  #held = '';

  constructor(markers: readonly string[]) {
    this.#markers = markers;
  }

  push(character: string): Scanned {
    this.#held += character;
    let text = '';
    while (this.#held !== '') {
      const held = this.#held;
      const candidate = this.#markers.find((marker) => marker.startsWith(held));
      if (candidate === held) {
        this.#held = '';
        return { text, marker: candidate };
      }
      if (candidate !== undefined) return text === '' ? NOTHING : { text, marker: null };
      text += held[0];
      this.#held = held.slice(1);
    }
    return { text, marker: null };
  }

  /** What was held back. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}
