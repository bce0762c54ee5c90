/** A binary heap of numbers, smallest first. */
export class NumberHeap {
  #values = new Float64Array(64);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  clear(): void {
    this.#length = 0;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const grown = new Float64Array(2 * this.#length);
      grown.set(this.#values);
      this.#values = grown;
    }
    const values = this.#values;
    let at = this.#length;
    this.#length += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = values[parent] as number;
      if (above <= value) break;
      values[at] = above;
      at = parent;
    }
    values[at] = value;
  }

  /** Only when there is one. */
  pop(): number {
    const values = this.#values;
    const smallest = values[0] as number;
    this.#length -= 1;
    const length = this.#length;
    const moved = values[length] as number;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && (values[child + 1] as number) < (values[child] as number)) child += 1;
      if ((values[child] as number) >= moved) break;
      values[at] = values[child] as number;
      at = child;
    }
    values[at] = moved;
    return smallest;
  }
}
