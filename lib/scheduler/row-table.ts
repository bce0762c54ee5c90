import { AutoglmError } from '../errors';

/**
 * The native rows. A row is taken again at once after it was given back, since steps run in order; the generation tells
 * results for its former owner apart.
 */
export class RowTable {
  readonly numRows: number;
  readonly #generations: Int32Array;
  readonly #isTaken: Uint8Array;
  readonly #freeStack: number[];

  constructor(numRows: number) {
    this.numRows = numRows;
    this.#generations = new Int32Array(numRows);
    this.#isTaken = new Uint8Array(numRows);
    this.#freeStack = Array.from({ length: numRows }, (_, i) => numRows - 1 - i);
  }

  get numFree(): number {
    return this.#freeStack.length;
  }

  /** A free row with a generation it never had. */
  take(): { readonly row: number; readonly generation: number } {
    const row = this.#freeStack.pop();
    if (row === undefined) throw new AutoglmError('internal', `all ${this.numRows} rows are taken`);
    const generation = (this.#generations[row] as number) + 1;
    this.#generations[row] = generation;
    this.#isTaken[row] = 1;
    return { row, generation };
  }

  release(row: number): void {
    if (this.#isTaken[row] !== 1)
      throw new AutoglmError('internal', `row ${row} was released but is not taken`);
    this.#isTaken[row] = 0;
    this.#freeStack.push(row);
  }

  isCurrent(row: number, generation: number): boolean {
    return this.#isTaken[row] === 1 && this.#generations[row] === generation;
  }
}
