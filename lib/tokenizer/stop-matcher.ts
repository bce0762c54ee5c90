import { AutoglmError } from '../errors';

export interface StopMatch {
  /** Text that can be shown: none of it belongs to a stop string. */
  readonly text: string;
  /** The stop string that was found, or null. The text ends right before it. */
  readonly stop: string | null;
}

interface Node {
  readonly next: Map<number, Node>;
  /** Longest proper suffix that is a prefix of a stop string. */
  fail: Node | null;
  /** UTF-16 units from the root. */
  readonly depth: number;
  /** The longest stop string that ends here. */
  stop: string | null;
}

/**
 * Looks for stop strings in text that comes in pieces, wherever it is cut. The first one that is complete ends the text;
 * of several that end at one place the longest counts. Text that may be the start of one is held back.
 * Source: Aho and Corasick, "Efficient string matching", CACM 18(6), 1975.
 */
export class StopMatcher {
  readonly #root: Node;
  #state: Node;
  #held = '';
  #isStopped = false;

  constructor(stops: readonly string[]) {
    this.#root = buildAutomaton(stops);
    this.#state = this.#root;
  }

  /** After a stop string was found, later text is ignored. */
  push(text: string): StopMatch {
    if (this.#isStopped) return { text: '', stop: null };
    const all = this.#held + text;
    for (let i = this.#held.length; i < all.length; i += 1) {
      this.#state = step(this.#state, all.charCodeAt(i), this.#root);
      const stop = this.#state.stop;
      if (stop !== null) {
        this.#isStopped = true;
        this.#held = '';
        return { text: all.slice(0, i + 1 - stop.length), stop };
      }
    }
    const safe = all.length - this.#state.depth;
    this.#held = all.slice(safe);
    return { text: all.slice(0, safe), stop: null };
  }

  /** What was held back, once no more text comes or what comes does not go on from it. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    this.#state = this.#root;
    return held;
  }
}

function step(state: Node, unit: number, root: Node): Node {
  for (let node: Node | null = state; node !== null; node = node.fail) {
    const next = node.next.get(unit);
    if (next !== undefined) return next;
  }
  return root;
}

function buildAutomaton(stops: readonly string[]): Node {
  const root: Node = { next: new Map(), fail: null, depth: 0, stop: null };
  for (const [i, stop] of stops.entries()) {
    if (stop === '') throw new AutoglmError('invalid_parameter', `expected stop[${i}] to be non-empty text`);
    let node = root;
    for (let k = 0; k < stop.length; k += 1) {
      const unit = stop.charCodeAt(k);
      let next = node.next.get(unit);
      if (next === undefined) {
        next = { next: new Map(), fail: root, depth: k + 1, stop: null };
        node.next.set(unit, next);
      }
      node = next;
    }
    node.stop = stop;
  }
  // Breadth first, so that a node's fail link is set before those of its children.
  const queue = [...root.next.values()];
  for (const node of queue) {
    for (const [unit, child] of node.next) {
      child.fail = step(node.fail as Node, unit, root);
      child.stop ??= child.fail.stop;
      queue.push(child);
    }
  }
  return root;
}
