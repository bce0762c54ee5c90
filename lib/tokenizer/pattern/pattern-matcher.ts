import { Alphabet, END } from './alphabet';
import { Automaton, DEAD, START, StepBudget } from './automaton';
import { compilePattern } from './pattern-program';
import { parsePattern } from './pattern-syntax';

type FactFinder =
  | { readonly kind: 'next'; readonly set: number }
  | { readonly kind: 'ahead'; readonly automaton: Automaton }
  | { readonly kind: 'behind'; readonly automaton: Automaton };

/**
 * Finds the matches of a regular expression, those that a backtracking matcher prefers, with automata. The time is bounded
 * by a number of steps, whatever pattern and text are: beyond it `invalid_parameter`. Looks behind and at more than one
 * character ahead are answered for every place of a text before it is matched, each by one pass over the text.
 */
export class PatternMatcher {
  readonly #alphabet: Alphabet;
  readonly #automaton: Automaton;
  readonly #facts: readonly FactFinder[];
  readonly #budget: StepBudget;

  constructor(pattern: string) {
    const { root, sets, facts } = parsePattern(pattern);
    this.#alphabet = new Alphabet(pattern, sets, facts.length > 0);
    this.#budget = new StepBudget(pattern);
    this.#automaton = new Automaton(compilePattern(pattern, root), this.#alphabet, this.#budget, false);
    this.#facts = facts.map((fact): FactFinder => {
      if (fact.kind === 'next') return fact;
      const program = compilePattern(pattern, fact.body);
      const automaton = new Automaton(program, this.#alphabet, this.#budget, true);
      return { kind: fact.kind, automaton };
    });
  }

  /** Start and end of each match, from left to right, flat. Empty ones are left out right behind another match. */
  matches(text: string): number[] {
    this.#budget.grant(text.length);
    const facts = this.#facts.length === 0 ? null : this.#factsOf(text);
    const found: number[] = [];
    for (let start = 0; start <= text.length; ) {
      const end = this.#matchAt(text, start, facts);
      if (end > start || (end === start && end !== found.at(-1))) found.push(start, end);
      start = end > start ? end : start + unitsAt(text, start);
    }
    return found;
  }

  /** End of the match that begins at `start`, or -1. */
  #matchAt(text: string, start: number, facts: Uint16Array | null): number {
    let state = START;
    let last = -1;
    let i = start;
    for (;;) {
      const next = this.#automaton.step(state, this.#symbolAt(text, i, facts));
      if ((next & 1) === 1) last = i;
      state = next >> 1;
      if (state === DEAD) break;
      i += unitsAt(text, i);
    }
    this.#budget.spend(i - start + 1);
    return last;
  }

  #symbolAt(text: string, i: number, facts: Uint16Array | null): number {
    const characterClass = this.#alphabet.classAt(text, i);
    return facts === null ? characterClass : this.#alphabet.symbolFor(characterClass, facts[i] as number);
  }

  /** For each place of a text, a bit for each fact that holds there. */
  #factsOf(text: string): Uint16Array {
    const facts = new Uint16Array(text.length + 1);
    for (const [bit, finder] of this.#facts.entries()) {
      this.#budget.spend(text.length);
      if (finder.kind === 'ahead') this.#lookAhead(text, finder.automaton, facts, 1 << bit);
      else if (finder.kind === 'behind') this.#lookBehind(text, finder.automaton, facts, 1 << bit);
      else this.#lookAtNext(text, finder.set, facts, 1 << bit);
    }
    return facts;
  }

  #lookAtNext(text: string, set: number, facts: Uint16Array, bit: number): void {
    for (let i = 0; i < text.length; i += unitsAt(text, i)) {
      if (this.#alphabet.isInSet(this.#alphabet.classAt(text, i), set)) facts[i] = (facts[i] as number) | bit;
    }
  }

  /** From the end of the text: its program reads backwards. */
  #lookAhead(text: string, automaton: Automaton, facts: Uint16Array, bit: number): void {
    let state = START;
    for (let i = text.length; i >= 0; ) {
      const before = i - (i > 1 && (text.charCodeAt(i - 1) & 0xfc00) === 0xdc00 ? 2 : 1);
      const characterClass = before < 0 ? END : this.#alphabet.classAt(text, before);
      const next = automaton.step(state, this.#alphabet.symbolFor(characterClass, facts[i] as number));
      if ((next & 1) === 1) facts[i] = (facts[i] as number) | bit;
      state = next >> 1;
      i = before;
    }
  }

  #lookBehind(text: string, automaton: Automaton, facts: Uint16Array, bit: number): void {
    let state = START;
    for (let i = 0; i <= text.length; i += unitsAt(text, i)) {
      const next = automaton.step(state, this.#symbolAt(text, i, facts));
      if ((next & 1) === 1) facts[i] = (facts[i] as number) | bit;
      state = next >> 1;
    }
  }
}

/** Units of the character at a place: texts are well-formed. */
function unitsAt(text: string, i: number): number {
  return (text.charCodeAt(i) & 0xfc00) === 0xd800 ? 2 : 1;
}
