import { refuse } from '../http-errors';

export interface JsonBudget {
  readonly maxDepth: number;
  readonly maxElements: number;
}

interface Container {
  /** Keys seen so far; null for an array. */
  readonly keys: Set<string> | null;
  isAtKey: boolean;
}

/** No request has a use for more; it bounds what any later look at an object's keys can cost. */
const MAX_KEYS = 4_096;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** 1 for the characters that give JSON its shape; all others are passed over. */
const IS_STRUCTURAL = Uint8Array.from({ length: 128 }, (_, unit) =>
  '"{}[],:'.includes(String.fromCharCode(unit)) ? 1 : 0,
);

/**
 * One pass over JSON text before JSON.parse builds anything: refuses deep nesting, too many values, objects with too
 * many keys, keys given twice (of which JSON.parse would silently take the last) and `__proto__`. It does not validate:
 * JSON.parse does.
 */
export function scanJson(text: string, budget: JsonBudget): void {
  const stack: Container[] = [];
  let top: Container | undefined;
  let numElements = 1;
  for (let i = nextStructural(text, 0); i < text.length; i = nextStructural(text, i + 1)) {
    switch (text[i]) {
      case '"': {
        const end = closingQuote(text, i);
        if (end === text.length) return;
        if (top?.isAtKey) checkKey(top, text.slice(i, end + 1));
        i = end;
        break;
      }
      case '{':
      case '[':
        numElements = countElement(numElements, budget);
        top = text[i] === '{' ? { keys: new Set(), isAtKey: true } : { keys: null, isAtKey: false };
        stack.push(top);
        checkDepth(stack.length, i, budget);
        break;
      case '}':
      case ']':
        if (stack.length === 0) return;
        stack.pop();
        top = stack.at(-1);
        break;
      case ',':
        numElements = countElement(numElements, budget);
        if (top?.keys) top.isAtKey = true;
        break;
      case ':':
        if (top) top.isAtKey = false;
        break;
    }
  }
}

function nextStructural(text: string, start: number): number {
  const table = IS_STRUCTURAL;
  const length = text.length;
  let i = start;
  while (i < length) {
    const unit = text.charCodeAt(i);
    if (unit < 128 && table[unit] === 1) return i;
    i += 1;
  }
  return length;
}

/** Values are one more than commas and containers, empty containers aside. */
function countElement(numElements: number, { maxElements }: JsonBudget): number {
  if (numElements < maxElements) return numElements + 1;
  throw refuse('invalid_json', `the body has more than ${maxElements} JSON values`, {
    where: 'body',
    found: `over ${maxElements} values`,
    allowed: `at most ${maxElements} values`,
  });
}

function checkDepth(depth: number, index: number, { maxDepth }: JsonBudget): void {
  if (depth <= maxDepth) return;
  throw refuse('invalid_json', `the body nests JSON deeper than ${maxDepth} levels`, {
    where: `body, character ${index}`,
    found: `depth ${depth}`,
    allowed: `at most depth ${maxDepth}`,
  });
}

/** Index of the quote that ends the string opened at `open`; the text's length when there is none. */
function closingQuote(text: string, open: number): number {
  const length = text.length;
  // The built-in search is some twenty times faster, and most strings have no backslash before their end.
  const quote = text.indexOf('"', open + 1);
  if (quote !== -1 && text.charCodeAt(quote - 1) !== BACKSLASH) return quote;
  for (let i = open + 1; i < length; i += 1) {
    const unit = text.charCodeAt(i);
    if (unit === QUOTE) return i;
    if (unit === BACKSLASH) i += 1;
  }
  return length;
}

function checkKey(container: Container, literal: string): void {
  const key = literal.includes('\\') ? unescapeKey(literal) : literal.slice(1, -1);
  if (key === null) return;
  if (key === '__proto__')
    throw refuse('invalid_json', 'the key "__proto__" is not accepted', { where: 'body', param: key });
  if (container.keys?.has(key))
    throw refuse('invalid_json', `the key "${key.slice(0, 64)}" is given twice in one object`, {
      where: 'body',
      param: key.slice(0, 64),
    });
  container.keys?.add(key);
  if ((container.keys?.size ?? 0) > MAX_KEYS)
    throw refuse('invalid_json', `an object of the body has more than ${MAX_KEYS} keys`, {
      where: 'body',
      found: `over ${MAX_KEYS} keys`,
      allowed: `at most ${MAX_KEYS} keys`,
    });
}

/** Null for a broken escape, which JSON.parse then reports with its position. */
function unescapeKey(literal: string): string | null {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return null;
  }
}
