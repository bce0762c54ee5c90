const CONSTANTS: Readonly<Record<string, unknown>> = { True: true, False: false, None: null };
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  v: '\v',
  a: '\x07',
  '0': '\0',
  '\\': '\\',
  "'": "'",
  '"': '"',
  '\n': '',
};
const MAX_DEPTH = 64;

/** A literal and where it ends. */
interface Found {
  readonly value: unknown;
  readonly end: number;
}

/** The value of a Python literal (str, int, float, bool, None, list, tuple, dict); undefined for anything else. */
export function parsePythonLiteral(text: string): unknown {
  const found = literalAt(text, 0, 0);
  return found !== null && skipBlanks(text, found.end) === text.length ? found.value : undefined;
}

function skipBlanks(text: string, start: number): number {
  let at = start;
  while (at < text.length && /\s/.test(text[at] as string)) at += 1;
  return at;
}

function literalAt(text: string, from: number, depth: number): Found | null {
  const start = skipBlanks(text, from);
  const first = text[start];
  if (first === undefined || depth > MAX_DEPTH) return null;
  if (first === '"' || first === "'") return stringAt(text, start);
  if (first === '[' || first === '(') {
    const items = itemsAt(text, start + 1, first === '[' ? ']' : ')', (at) => literalAt(text, at, depth + 1));
    return items === null ? null : { value: items.values, end: items.end };
  }
  if (first === '{') {
    const items = itemsAt(text, start + 1, '}', (at) => pairAt(text, at, depth + 1));
    if (items === null) return null;
    return { value: Object.fromEntries(items.values as [string, unknown][]), end: items.end };
  }
  const word = /^[-+]?\w[\w.]*(?:(?<=[eE])[-+]\d+)?/.exec(text.slice(start, start + 64))?.[0] ?? '';
  if (Object.hasOwn(CONSTANTS, word)) return { value: CONSTANTS[word], end: start + word.length };
  const isNumber = /^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$/.test(word) && Number.isFinite(Number(word));
  return isNumber ? { value: Number(word), end: start + word.length } : null;
}

function stringAt(text: string, start: number): Found | null {
  const quote = text[start] as string;
  let value = '';
  for (let at = start + 1; at < text.length; at += 1) {
    const character = text[at] as string;
    if (character === quote) return { value, end: at + 1 };
    if (character !== '\\') {
      value += character;
      continue;
    }
    const letter = text[at + 1] ?? '';
    const code = /^(?:x([\da-f]{2})|u([\da-f]{4}))/i.exec(text.slice(at + 1, at + 6));
    if (code !== null) {
      value += String.fromCharCode(Number.parseInt(code[1] ?? code[2] ?? '', 16));
      at += code[0].length;
      continue;
    }
    // As in Python, an escape that is none keeps its backslash.
    value += Object.hasOwn(ESCAPES, letter) ? ESCAPES[letter] : `\\${letter}`;
    at += 1;
  }
  return null;
}

function pairAt(text: string, from: number, depth: number): Found | null {
  const key = literalAt(text, from, depth);
  if (key === null || typeof key.value !== 'string') return null;
  const colon = skipBlanks(text, key.end);
  if (text[colon] !== ':') return null;
  const value = literalAt(text, colon + 1, depth);
  return value === null ? null : { value: [key.value, value.value], end: value.end };
}

function itemsAt(
  text: string,
  from: number,
  closer: string,
  itemAt: (at: number) => Found | null,
): { readonly values: unknown[]; readonly end: number } | null {
  const values: unknown[] = [];
  let at = skipBlanks(text, from);
  while (text[at] !== closer) {
    const item = itemAt(at);
    if (item === null) return null;
    values.push(item.value);
    at = skipBlanks(text, item.end);
    if (text[at] === ',') at = skipBlanks(text, at + 1);
    else if (text[at] !== closer) return null;
  }
  return { values, end: at + 1 };
}
