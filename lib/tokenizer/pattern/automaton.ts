import { AutoglmError } from '../../errors';
import type { Alphabet } from './alphabet';
import { Op, type PatternProgram } from './pattern-program';

/** Patterns of real tokenizers have up to 60 states; beyond this many the table is begun anew. */
const MAX_STATES = 1024;
const UNKNOWN = -1;
/** The state that no text leads out of. */
export const DEAD = 0;
export const START = 1;
/** Steps granted per character of a text, and once: real patterns take about two. */
const STEPS_PER_CHARACTER = 64;
const MIN_STEPS = 65_536;

/** Steps that a text may still take, whatever the pattern is. */
export class StepBudget {
  #left = 0;

  constructor(readonly pattern: string) {}

  grant(textLength: number): void {
    this.#left = Math.max(MIN_STEPS, STEPS_PER_CHARACTER * textLength);
  }

  spend(steps: number): void {
    this.#left -= steps;
    if (this.#left >= 0) return;
    throw new AutoglmError(
      'invalid_parameter',
      `the tokenizer's pattern takes more than ${STEPS_PER_CHARACTER} steps per character on this text`,
      {
        hint: 'The expression of this model is not made for such text; shorten it.',
        details: { pattern: this.pattern },
      },
    );
  }
}

/**
 * Runs a program over symbols without ever backtracking: an automaton whose states, the sets of instructions that the
 * program may be at, are made as they are met.
 * Source: R. Cox, "Regular expression matching in the wild", 2010; a look at the next character is decided by knowing its
 * class before a state's branches are followed.
 */
export class Automaton {
  readonly #code: Int32Array;
  readonly #alphabet: Alphabet;
  readonly #budget: StepBudget;
  /** Begins anew at every place and goes on past matches: asked which places are ends of matches. */
  readonly #isSearch: boolean;
  /** Instructions that a state is at, in order of preference. */
  #states: Int32Array[] = [];
  #stateOf = new Map<string, number>();
  /** [state][symbol]: twice the next state, plus one when the text before that symbol is a match. */
  #next = new Int32Array(0);
  readonly #visited: Int32Array;
  #visit = 0;

  constructor(program: PatternProgram, alphabet: Alphabet, budget: StepBudget, isSearch: boolean) {
    this.#code = program.code;
    this.#alphabet = alphabet;
    this.#budget = budget;
    this.#isSearch = isSearch;
    this.#visited = new Int32Array(program.code.length / 3);
    this.#forget();
  }

  /** Twice the state after a symbol, plus one when the text before that symbol is a match. */
  step(state: number, symbol: number): number {
    const next = this.#next[state * this.#alphabet.size + symbol] as number;
    return next === UNKNOWN ? this.#makeNext(state, symbol) : next;
  }

  #forget(): void {
    this.#states = [new Int32Array(0)];
    this.#stateOf = new Map([['', DEAD]]);
    this.#next = new Int32Array(16 * this.#alphabet.size).fill(UNKNOWN);
    this.#next.fill(2 * DEAD, 0, this.#alphabet.size);
    this.#stateFor(Int32Array.of(0));
  }

  #stateFor(instructions: Int32Array): number {
    const key = instructions.join();
    const known = this.#stateOf.get(key);
    if (known !== undefined) return known;
    const made = this.#states.push(instructions) - 1;
    this.#stateOf.set(key, made);
    if (made * this.#alphabet.size >= this.#next.length) {
      const grown = new Int32Array(2 * this.#next.length).fill(UNKNOWN);
      grown.set(this.#next);
      this.#next = grown;
    }
    return made;
  }

  #makeNext(state: number, symbol: number): number {
    const { reached, isMatch } = this.#follow(this.#states[state] as Int32Array, symbol);
    if (this.#isSearch && !reached.includes(0)) reached.push(0);
    const isFull = this.#states.length >= MAX_STATES;
    if (isFull) this.#forget();
    const next = 2 * this.#stateFor(Int32Array.from(reached)) + Number(isMatch);
    if (!isFull) this.#next[state * this.#alphabet.size + symbol] = next;
    return next;
  }

  /** The instructions behind the characters that a symbol may be, from those of a state. */
  #follow(state: Int32Array, symbol: number): { readonly reached: number[]; readonly isMatch: boolean } {
    const code = this.#code;
    const { inSet, facts } = this.#alphabet.meaningOf(symbol);
    const reached: number[] = [];
    const stack: number[] = [];
    let isMatch = false;
    this.#visit += 1;
    for (let k = 0; k < state.length; k += 1) {
      stack.push(state[k] as number);
      while (stack.length > 0) {
        const at = stack.pop() as number;
        if (this.#visited[at] === this.#visit) continue;
        this.#visited[at] = this.#visit;
        this.#budget.spend(1);
        const a = code[3 * at + 1] as number;
        switch (code[3 * at]) {
          case Op.match:
            isMatch = true;
            // What is less preferred than a match does not count.
            if (!this.#isSearch) return { reached, isMatch };
            break;
          case Op.set:
            if (inSet[a] === true) reached.push(at + 1);
            break;
          case Op.split:
            stack.push(code[3 * at + 2] as number, a);
            break;
          case Op.jump:
            stack.push(a);
            break;
          case Op.look:
          case Op.lookNegated:
            if ((inSet[a] === true) === (code[3 * at] === Op.look)) stack.push(at + 1);
            break;
          default:
            if (((facts >> a) % 2 === 1) === (code[3 * at] === Op.fact)) stack.push(at + 1);
        }
      }
    }
    return { reached, isMatch };
  }
}
