import { AutoglmError } from '../../errors';
import { patternFault } from './pattern-fault';
import { compilePattern, Op, type PatternProgram } from './pattern-program';
import { parsePattern } from './pattern-syntax';

/** Class of the end of a text; characters are in the classes after it. */
const END_CLASS = 0;
const MAX_CLASSES = 255;
/** Patterns of real tokenizers have up to 60 states; beyond this many the table is begun anew. */
const MAX_STATES = 1024;
const UNKNOWN = -1;
const DEAD = 0;
/** Steps granted per character of a text, and once: real patterns take about two. */
const STEPS_PER_CHARACTER = 64;
const MIN_STEPS = 65_536;

/**
 * Finds the matches of a regular expression without ever backtracking: an automaton whose states are made as they are
 * met. The match is the one a backtracking matcher prefers. The time is bounded by a number of steps, whatever pattern and
 * text are: beyond it `invalid_parameter`.
 * Source: R. Cox, "Regular expression matching in the wild", 2010; the look at one character ahead is decided by knowing
 * the next character's class before a state's branches are followed.
 */
export class PatternMatcher {
  readonly #pattern: string;
  readonly #program: PatternProgram;
  /** Class of each UTF-16 unit that is a character, 0 while it is not known. */
  readonly #classOfUnit = new Uint8Array(0x10000);
  readonly #classOfCode = new Map<number, number>();
  /** By the sets that a character is in, as text of ones and zeros. */
  readonly #classOfSignature = new Map<string, number>();
  /** [class][set] */
  readonly #isInSet: boolean[][] = [[]];
  /** Instructions that a state is at, in order of preference. */
  #states: Int32Array[] = [];
  #stateOf = new Map<string, number>();
  /** [state][class]: twice the next state, plus one when the text before that character is a match. */
  #next = new Int32Array(0);
  readonly #visited: Int32Array;
  #visit = 0;
  #stepsLeft = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
    this.#program = compilePattern(pattern, parsePattern(pattern));
    this.#visited = new Int32Array(this.#program.code.length / 3);
    this.#forget();
  }

  /** Start and end of each match that is not empty, from left to right, flat. */
  matches(text: string): number[] {
    this.#stepsLeft = Math.max(MIN_STEPS, STEPS_PER_CHARACTER * text.length);
    const found: number[] = [];
    for (let start = 0; start < text.length; ) {
      const end = this.#matchAt(text, start);
      if (end > start) {
        found.push(start, end);
        start = end;
      } else {
        start += (text.codePointAt(start) as number) > 0xffff ? 2 : 1;
      }
    }
    return found;
  }

  /** End of the match that begins at `start`, or -1. */
  #matchAt(text: string, start: number): number {
    let state = 1;
    let last = -1;
    let i = start;
    for (;;) {
      const characterClass = i < text.length ? this.#classAt(text, i) : END_CLASS;
      let next = this.#next[state * (MAX_CLASSES + 1) + characterClass] as number;
      if (next === UNKNOWN) next = this.#makeNext(state, characterClass);
      if ((next & 1) === 1) last = i;
      state = next >> 1;
      if (state === DEAD) break;
      i += (text.charCodeAt(i) & 0xfc00) === 0xd800 ? 2 : 1;
    }
    this.#spend(i - start + 1);
    return last;
  }

  #spend(steps: number): void {
    this.#stepsLeft -= steps;
    if (this.#stepsLeft >= 0) return;
    throw new AutoglmError(
      'invalid_parameter',
      `the tokenizer's pattern takes more than ${STEPS_PER_CHARACTER} steps per character on this text`,
      {
        hint: 'The expression of this model is not made for such text; shorten it.',
        details: { pattern: this.#pattern },
      },
    );
  }

  #classAt(text: string, i: number): number {
    const unit = text.charCodeAt(i);
    if ((unit & 0xfc00) !== 0xd800) {
      const known = this.#classOfUnit[unit] as number;
      if (known !== 0) return known;
      const made = this.#classFor(String.fromCharCode(unit));
      this.#classOfUnit[unit] = made;
      return made;
    }
    const code = text.codePointAt(i) as number;
    const known = this.#classOfCode.get(code);
    if (known !== undefined) return known;
    const made = this.#classFor(String.fromCodePoint(code));
    this.#classOfCode.set(code, made);
    return made;
  }

  /** Characters that are in the same sets are alike to the pattern. */
  #classFor(character: string): number {
    const isInSet = this.#program.sets.map((set) => set.test(character));
    const signature = isInSet.map(Number).join('');
    const known = this.#classOfSignature.get(signature);
    if (known !== undefined) return known;
    const made = this.#isInSet.length;
    if (made > MAX_CLASSES) throw patternFault(this.#pattern, 'its classes of characters are too many');
    this.#isInSet.push(isInSet);
    this.#classOfSignature.set(signature, made);
    return made;
  }

  #forget(): void {
    this.#states = [new Int32Array(0)];
    this.#stateOf = new Map([['', DEAD]]);
    this.#next = new Int32Array(16 * (MAX_CLASSES + 1)).fill(UNKNOWN);
    this.#next.fill(2 * DEAD, 0, MAX_CLASSES + 1);
    this.#stateFor(Int32Array.of(0));
  }

  #stateFor(instructions: Int32Array): number {
    const key = instructions.join();
    const known = this.#stateOf.get(key);
    if (known !== undefined) return known;
    const made = this.#states.push(instructions) - 1;
    this.#stateOf.set(key, made);
    if (made * (MAX_CLASSES + 1) >= this.#next.length) {
      const grown = new Int32Array(2 * this.#next.length).fill(UNKNOWN);
      grown.set(this.#next);
      this.#next = grown;
    }
    return made;
  }

  #makeNext(state: number, characterClass: number): number {
    const { code } = this.#program;
    const reached: number[] = [];
    const isInSet = this.#isInSet[characterClass] as boolean[];
    const stack: number[] = [];
    let isMatch = false;
    this.#visit += 1;
    const before = this.#states[state] as Int32Array;
    for (let k = 0; k < before.length && !isMatch; k += 1) {
      stack.push(before[k] as number);
      while (stack.length > 0) {
        const at = stack.pop() as number;
        if (this.#visited[at] === this.#visit) continue;
        this.#visited[at] = this.#visit;
        this.#spend(1);
        const a = code[3 * at + 1] as number;
        const op = code[3 * at];
        if (op === Op.match) {
          // What is less preferred than a match does not count.
          isMatch = true;
          break;
        }
        if (op === Op.set) {
          if (isInSet[a] === true) reached.push(at + 1);
        } else if (op === Op.split) stack.push(code[3 * at + 2] as number, a);
        else if (op === Op.jump) stack.push(a);
        else if ((isInSet[a] === true) === (op === Op.look)) stack.push(at + 1);
      }
    }
    if (this.#states.length >= MAX_STATES) {
      this.#forget();
      return 2 * this.#stateFor(Int32Array.from(reached)) + Number(isMatch);
    }
    const next = 2 * this.#stateFor(Int32Array.from(reached)) + Number(isMatch);
    this.#next[state * (MAX_CLASSES + 1) + characterClass] = next;
    return next;
  }
}
