import { classLiteral, readClass, readEscape, WORD_CLASS } from './character-class';
import { MAX_PATTERN_LENGTH, patternFault } from './pattern-fault';
import { type ParsedPattern, type PatternNode, type PlaceFact, reversed } from './pattern-tree';

const MAX_DEPTH = 64;
/** Published patterns count up to 512. */
const MAX_COUNT = 1024;
/** Each takes a pass over the text, and a bit. Published patterns need up to three. */
const MAX_FACTS = 16;
const ANY = '[\\u{0}-\\u{10ffff}]';

/**
 * Parses the part of Oniguruma's syntax that tokenizers use. Refused by name: back references, atomic and conditional
 * groups, groups repeated possessively.
 */
export function parsePattern(pattern: string): ParsedPattern {
  if (pattern.length > MAX_PATTERN_LENGTH) throw patternFault(pattern, `it has ${pattern.length} characters`);
  const parser = new Parser(pattern);
  return { root: parser.parse(), sets: parser.sets, facts: parser.facts };
}

class Parser {
  readonly #pattern: string;
  readonly #indexOfSet = new Map<string, number>();
  readonly #indexOfFact = new Map<string, number>();
  readonly sets: RegExp[] = [];
  readonly facts: PlaceFact[] = [];
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
        return this.#lineStart();
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
    switch (letter) {
      case 'z':
        return { type: 'look', set: this.#setIndex(ANY), isNegated: true };
      case 'Z':
        return this.#end();
      case 'A':
        return this.#behind(ANY, true);
      case 'b':
        return this.#wordBoundary(true);
      case 'B':
        return this.#wordBoundary(false);
      default:
        throw this.#fault(`\\${letter} is not supported`);
    }
  }

  /** Whether the character before is in a class. */
  #behind(source: string, isNegated: boolean): PatternNode {
    const set = this.#setIndex(source);
    const fact = this.#factIndex(`behind ${set}`, () => ({ kind: 'behind', body: { type: 'set', set } }));
    return { type: 'fact', fact, isNegated };
  }

  #ahead(source: string, isNegated: boolean): PatternNode {
    return { type: 'look', set: this.#setIndex(source), isNegated };
  }

  /** The end of the text, or a newline that ends it. */
  #end(): PatternNode {
    const end = this.#ahead(ANY, true);
    const newline: PatternNode = { type: 'sequence', parts: [this.#set('\\n'), end] };
    return { type: 'choice', options: [end, this.#look(newline, false, '\\Z')] };
  }

  /** Behind a newline that ends the text no line begins. */
  #lineStart(): PatternNode {
    const afterNewline = { type: 'sequence', parts: [this.#behind('\\n', false), this.#ahead(ANY, false)] };
    return { type: 'choice', options: [this.#behind(ANY, true), afterNewline as PatternNode] };
  }

  #wordBoundary(isBoundary: boolean): PatternNode {
    const option = (isWord: boolean): PatternNode => ({
      type: 'sequence',
      parts: [this.#behind(WORD_CLASS, !isWord), this.#ahead(WORD_CLASS, isWord === isBoundary)],
    });
    return { type: 'choice', options: [option(true), option(false)] };
  }

  #factIndex(key: string, make: () => PlaceFact): number {
    const known = this.#indexOfFact.get(key);
    if (known !== undefined) return known;
    const fact = make();
    if (this.facts.length === MAX_FACTS) throw this.#fault(`it looks around in more than ${MAX_FACTS} ways`);
    this.#indexOfFact.set(key, this.facts.length);
    return this.facts.push(fact) - 1;
  }

  /** The opening parenthesis has been read. */
  #group(): PatternNode | null {
    const opening = /^\?(?:#[^)]*\)|:|=|!|<=|<!|<[A-Za-z_]\w*>|(-?)(i)(-?)([:)]))/.exec(
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
      const start = this.#at;
      const inner = this.#closed(this.#choice());
      const source = this.#pattern.slice(start, this.#at);
      if (text === '?=' || text === '?!') return this.#look(inner, text === '?!', source);
      return text === '?<=' || text === '?<!' ? this.#lookBehind(inner, text === '?<!', source) : inner;
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

  /** One character ahead is looked at while matching, whatever is more is a fact. */
  #look(inner: PatternNode, isNegated: boolean, source: string): PatternNode {
    const options = inner.type === 'choice' ? inner.options : [inner];
    const looks = options.flatMap((option): PatternNode[] => {
      if (option.type === 'set') return [{ type: 'look', set: option.set, isNegated }];
      return option.type === 'look' ? [{ ...option, isNegated: option.isNegated !== isNegated }] : [];
    });
    if (looks.length === options.length) {
      // A choice of one-character looks: all must fail, or one must hold.
      return isNegated ? { type: 'sequence', parts: looks } : { type: 'choice', options: looks };
    }
    const fact = this.#factIndex(`ahead ${this.#ignoresCase} ${source}`, () => ({
      kind: 'ahead',
      body: reversed(inner, (set) => this.#factIndex(`next ${set}`, () => ({ kind: 'next', set }))),
    }));
    return { type: 'fact', fact, isNegated };
  }

  #lookBehind(inner: PatternNode, isNegated: boolean, source: string): PatternNode {
    const key = `behind ${this.#ignoresCase} ${source}`;
    const fact = this.#factIndex(key, () => ({ kind: 'behind', body: inner }));
    return { type: 'fact', fact, isNegated };
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
