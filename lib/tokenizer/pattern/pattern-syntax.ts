import { classLiteral, readClass, readEscape } from './character-class';
import { MAX_PATTERN_LENGTH, patternFault } from './pattern-fault';

/** A regular expression as a tree. A set is the index of a character class. */
export type PatternNode =
  | { readonly type: 'set'; readonly set: number }
  /** Holds where the next character is in the set; negated, where it is not or the text ends. */
  | { readonly type: 'look'; readonly set: number; readonly isNegated: boolean }
  | { readonly type: 'sequence'; readonly parts: readonly PatternNode[] }
  | { readonly type: 'choice'; readonly options: readonly PatternNode[] }
  | {
      readonly type: 'repeat';
      readonly part: PatternNode;
      readonly min: number;
      readonly max: number;
      readonly isGreedy: boolean;
    };

export interface ParsedPattern {
  readonly root: PatternNode;
  /** Tests of single characters. */
  readonly sets: readonly RegExp[];
}

const MAX_DEPTH = 64;
const MAX_COUNT = 256;
const ANY = '[\\u{0}-\\u{10ffff}]';

/**
 * Parses the part of Oniguruma's syntax that tokenizers use. Refused by name: back references, look-behind, anchors other
 * than the end, looks at more than one character, atomic groups.
 */
export function parsePattern(pattern: string): ParsedPattern {
  if (pattern.length > MAX_PATTERN_LENGTH) throw patternFault(pattern, `it has ${pattern.length} characters`);
  const parser = new Parser(pattern);
  return { root: parser.parse(), sets: parser.sets };
}

class Parser {
  readonly #pattern: string;
  readonly #indexOfSet = new Map<string, number>();
  readonly sets: RegExp[] = [];
  #at = 0;
  #depth = 0;
  #ignoresCase = false;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  parse(): PatternNode {
    const root = this.#choice();
    if (this.#at < this.#pattern.length) throw this.#fault('it closes a group that is not open');
    return root;
  }

  #fault(why: string) {
    return patternFault(this.#pattern, why);
  }

  #choice(): PatternNode {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) throw this.#fault(`its groups are nested more than ${MAX_DEPTH} deep`);
    const ignoredCase = this.#ignoresCase;
    const options = [this.#sequence()];
    while (this.#pattern[this.#at] === '|') {
      this.#at += 1;
      options.push(this.#sequence());
    }
    this.#ignoresCase = ignoredCase;
    this.#depth -= 1;
    return options.length === 1 ? (options[0] as PatternNode) : { type: 'choice', options };
  }

  #sequence(): PatternNode {
    const parts: PatternNode[] = [];
    for (;;) {
      const character = this.#pattern[this.#at];
      if (character === undefined || character === '|' || character === ')') break;
      const part = this.#atom();
      if (part !== null) parts.push(this.#quantified(part));
    }
    return parts.length === 1 ? (parts[0] as PatternNode) : { type: 'sequence', parts };
  }

  /** Null for what stands for nothing: a comment, a switch of options. */
  #atom(): PatternNode | null {
    const pattern = this.#pattern;
    const start = this.#at;
    const character = String.fromCodePoint(pattern.codePointAt(start) as number);
    this.#at += character.length;
    switch (character) {
      case '(':
        return this.#group();
      case '[': {
        const { source, end } = readClass(pattern, start);
        this.#at = end;
        return this.#set(source);
      }
      case '.':
        return this.#set('[^\\n]');
      case '$':
        return { type: 'look', set: this.#setIndex('[^\\n]'), isNegated: true };
      case '\\':
        return this.#escape(start);
      case '^':
        throw this.#fault('^ is not supported');
      case '*':
      case '+':
      case '?':
        throw this.#fault(`${character} repeats nothing`);
      default:
        return this.#set(classLiteral(character));
    }
  }

  #escape(start: number): PatternNode {
    const item = readEscape(this.#pattern, start);
    if (item !== null) {
      this.#at = item.end;
      return this.#set(item.source);
    }
    const letter = this.#pattern[start + 1] as string;
    this.#at = start + 2;
    if (letter === 'z') return { type: 'look', set: this.#setIndex(ANY), isNegated: true };
    throw this.#fault(`\\${letter} is not supported`);
  }

  /** The opening parenthesis has been read. */
  #group(): PatternNode | null {
    const opening = /^\?(?:#[^)]*\)|:|=|!|<[A-Za-z_]\w*>|(-?)(i)(-?)([:)]))/.exec(
      this.#pattern.slice(this.#at, this.#at + 256),
    );
    if (opening === null) {
      if (this.#pattern[this.#at] === '?') throw this.#fault('it uses a kind of group that is not supported');
      return this.#closed(this.#choice());
    }
    const text = opening[0];
    this.#at += text.length;
    if (text.startsWith('?#')) return null;
    if (opening[2] !== 'i') {
      const inner = this.#closed(this.#choice());
      return text === '?=' || text === '?!' ? this.#look(inner, text === '?!') : inner;
    }
    const outer = this.#ignoresCase;
    this.#ignoresCase = opening[1] !== '-';
    if (opening[4] === ')') return null;
    const inner = this.#closed(this.#choice());
    this.#ignoresCase = outer;
    return inner;
  }

  #closed(inner: PatternNode): PatternNode {
    if (this.#pattern[this.#at] !== ')') throw this.#fault('a group is not closed');
    this.#at += 1;
    return inner;
  }

  #look(inner: PatternNode, isNegated: boolean): PatternNode {
    if (inner.type === 'set') return { type: 'look', set: inner.set, isNegated };
    // A choice of one-character looks: all must fail, or one must hold.
    const options = inner.type === 'choice' ? inner.options : [inner];
    const looks = options.map((option): PatternNode => {
      if (option.type === 'set') return { type: 'look', set: option.set, isNegated };
      if (option.type === 'look') return { ...option, isNegated: option.isNegated !== isNegated };
      throw this.#fault('it looks at more than one character ahead');
    });
    return isNegated ? { type: 'sequence', parts: looks } : { type: 'choice', options: looks };
  }

  #quantified(part: PatternNode): PatternNode {
    let node = part;
    for (;;) {
      const count = this.#count();
      if (count === null) return node;
      const { min, max, isBraced } = count;
      const suffix = this.#pattern[this.#at];
      if (suffix === '?') {
        this.#at += 1;
        node = { type: 'repeat', part: node, min, max, isGreedy: false };
      } else if (suffix === '+' && !isBraced) {
        this.#at += 1;
        node = this.#possessive(node, min, max);
      } else {
        node = { type: 'repeat', part: node, min, max, isGreedy: true };
      }
    }
  }

  /** A set repeated without giving back is the greedy repetition that no member of the set follows. */
  #possessive(part: PatternNode, min: number, max: number): PatternNode {
    if (part.type !== 'set') throw this.#fault('it repeats a group possessively');
    const look: PatternNode = { type: 'look', set: part.set, isNegated: true };
    const repeat: PatternNode = { type: 'repeat', part, min, max, isGreedy: true };
    if (max === Number.POSITIVE_INFINITY) return { type: 'sequence', parts: [repeat, look] };
    return { type: 'choice', options: [part, look] };
  }

  #count(): { readonly min: number; readonly max: number; readonly isBraced: boolean } | null {
    const infinite = Number.POSITIVE_INFINITY;
    const simple = { '*': [0, infinite], '+': [1, infinite], '?': [0, 1] } as const;
    const character = this.#pattern[this.#at];
    if (character === '*' || character === '+' || character === '?') {
      this.#at += 1;
      const [min, max] = simple[character];
      return { min, max, isBraced: false };
    }
    if (character !== '{') return null;
    const braces = /^\{(\d{0,6})(,?)(\d{0,6})\}/.exec(this.#pattern.slice(this.#at, this.#at + 16));
    const [text, low, comma, high] = braces ?? [];
    if (text === undefined || (low === '' && high === '')) throw this.#fault('a { has to be written \\{');
    this.#at += text.length;
    const min = Number(low ?? 0);
    const max = comma === '' ? min : high === '' ? infinite : Number(high);
    if (min > MAX_COUNT || (max > MAX_COUNT && max !== infinite) || max < min) {
      throw this.#fault(`the count ${text} is not in 0..${MAX_COUNT}`);
    }
    return { min, max, isBraced: true };
  }

  #set(source: string): PatternNode {
    return { type: 'set', set: this.#setIndex(source) };
  }

  #setIndex(source: string): number {
    const flags = this.#ignoresCase ? 'iv' : 'v';
    const key = `${flags}${source}`;
    const known = this.#indexOfSet.get(key);
    if (known !== undefined) return known;
    this.#indexOfSet.set(key, this.sets.length);
    try {
      this.sets.push(new RegExp(`^[${source}]$`, flags));
    } catch (cause) {
      throw this.#fault((cause as Error).message);
    }
    return this.sets.length - 1;
  }
}
