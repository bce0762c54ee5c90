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

/**
 * One pass over JSON text before JSON.parse builds anything: refuses deep nesting, too many values, keys given twice
 * (of which JSON.parse would silently take the last) and `__proto__`. It does not validate: JSON.parse does.
 */
export function scanJson(text: string, { maxDepth, maxElements }: JsonBudget): void {
  const stack: Container[] = [];
  let numElements = 1;
  const count = (): void => {
    numElements += 1;
    if (numElements > maxElements)
      throw refuse('invalid_json', `the body has more than ${maxElements} JSON values`, {
        where: 'body',
        found: `over ${maxElements} values`,
        allowed: `at most ${maxElements} values`,
      });
  };
  for (let i = 0; i < text.length; i += 1) {
    const top = stack[stack.length - 1];
    switch (text[i]) {
      case '"': {
        const end = closingQuote(text, i);
        if (end === -1) return;
        if (top?.isAtKey) checkKey(top, text.slice(i, end + 1));
        i = end;
        break;
      }
      case '{':
      case '[':
        count();
        stack.push(text[i] === '{' ? { keys: new Set(), isAtKey: true } : { keys: null, isAtKey: false });
        if (stack.length > maxDepth)
          throw refuse('invalid_json', `the body nests JSON deeper than ${maxDepth} levels`, {
            where: `body, character ${i}`,
            found: `depth ${stack.length}`,
            allowed: `at most depth ${maxDepth}`,
          });
        break;
      case '}':
      case ']':
        stack.pop();
        break;
      case ',':
        count();
        if (top?.keys) top.isAtKey = true;
        break;
      case ':':
        if (top) top.isAtKey = false;
        break;
    }
  }
}

/** Index of the quote that ends the string opened at `open`, -1 when there is none. Linear over all calls. */
function closingQuote(text: string, open: number): number {
  let quote = text.indexOf('"', open + 1);
  while (quote !== -1) {
    let first = quote;
    while (text[first - 1] === '\\') first -= 1;
    if ((quote - first) % 2 === 0) return quote;
    quote = text.indexOf('"', quote + 1);
  }
  return -1;
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
}

/** Null for a broken escape, which JSON.parse then reports with its position. */
function unescapeKey(literal: string): string | null {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return null;
  }
}
