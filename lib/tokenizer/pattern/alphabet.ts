import { patternFault } from './pattern-fault';

/** Of the end of a text; the symbols of characters come after it. */
export const END = 0;
const MAX_CLASSES = 255;
const MAX_SYMBOLS = 1023;

/**
 * What the automata of one pattern step on. Characters that are in the same sets are alike to it and make one class; the
 * symbol at a place is the class of its character, or the class together with the facts that hold there.
 */
export class Alphabet {
  readonly #pattern: string;
  readonly #sets: readonly RegExp[];
  /** Class of each UTF-16 unit that is a character, 0 while it is not known. */
  readonly #classOfUnit = new Uint8Array(0x10000);
  readonly #classOfCode = new Map<number, number>();
  /** By the sets that a character is in, as text of ones and zeros. */
  readonly #classOfSignature = new Map<string, number>();
  /** [class][set] */
  readonly #classes: (readonly boolean[])[] = [[]];
  /** Symbols of classes with facts, by both; only patterns with facts have any. */
  readonly #symbolOfPair = new Map<number, number>();
  readonly #pairs: { readonly inSet: readonly boolean[]; readonly facts: number }[] = [];
  /** Symbols are below it. */
  readonly size: number;
  readonly #hasFacts: boolean;

  constructor(pattern: string, sets: readonly RegExp[], hasFacts: boolean) {
    this.#pattern = pattern;
    this.#sets = sets;
    this.#hasFacts = hasFacts;
    this.size = (hasFacts ? MAX_SYMBOLS : MAX_CLASSES) + 1;
  }

  /** Of the character at an index, END behind the last one. */
  classAt(text: string, i: number): number {
    if (i >= text.length) return END;
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

  isInSet(characterClass: number, set: number): boolean {
    return this.#classes[characterClass]?.[set] === true;
  }

  /** `facts`: a bit for each that holds. */
  symbolFor(characterClass: number, facts: number): number {
    const key = characterClass * 0x10000 + facts;
    const known = this.#symbolOfPair.get(key);
    if (known !== undefined) return known;
    const made = this.#pairs.length;
    if (made > MAX_SYMBOLS) throw patternFault(this.#pattern, 'its classes of characters are too many');
    this.#pairs.push({ inSet: this.#classes[characterClass] ?? [], facts });
    this.#symbolOfPair.set(key, made);
    return made;
  }

  /** What a symbol stands for. */
  meaningOf(symbol: number): { readonly inSet: readonly boolean[]; readonly facts: number } {
    if (!this.#hasFacts) return { inSet: this.#classes[symbol] ?? [], facts: 0 };
    return this.#pairs[symbol] as { readonly inSet: readonly boolean[]; readonly facts: number };
  }

  #classFor(character: string): number {
    const inSet = this.#sets.map((set) => set.test(character));
    const signature = inSet.map(Number).join('');
    const known = this.#classOfSignature.get(signature);
    if (known !== undefined) return known;
    const made = this.#classes.length;
    if (made > MAX_CLASSES) throw patternFault(this.#pattern, 'its classes of characters are too many');
    this.#classes.push(inSet);
    this.#classOfSignature.set(signature, made);
    return made;
  }
}
