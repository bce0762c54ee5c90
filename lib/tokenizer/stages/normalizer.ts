import { AutoglmError } from '../../errors';
import { invalidModelFile, quoted, unsupportedModel } from '../../model/model-file-error';
import { alphabetCharacter } from '../byte-alphabet';
import { PatternMatcher } from '../pattern/pattern-matcher';
import { StringTrie } from '../string-trie';
import type { ComponentJson } from '../vocabulary/tokenizer-json';
import { trimEnd, trimStart } from '../white-space';
import { bertNormalizer, lowercase, removeMarks } from './bert-text';
import { Charsmap } from './charsmap';
import { GraphemeCutter } from './graphemes';
import { sentencePieceText, type TextPlace } from './sentencepiece-text';

/** Changes a text before it is cut. */
export type Normalizer = (text: string, place: TextPlace) => string;

type Maker = (component: ComponentJson) => Normalizer;

const unicodeForm = (form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Maker => {
  return () => (text) => text.normalize(form);
};

const MAKERS: ReadonlyMap<string, Maker> = new Map<string, Maker>([
  ['Sequence', sequence],
  ['NFC', unicodeForm('NFC')],
  ['NFD', unicodeForm('NFD')],
  ['NFKC', unicodeForm('NFKC')],
  ['NFKD', unicodeForm('NFKD')],
  ['Lowercase', () => lowercase],
  ['StripAccents', () => removeMarks],
  ['Strip', strip],
  ['Replace', replace],
  ['Prepend', prepend],
  ['Precompiled', precompiled],
  ['BertNormalizer', bertNormalizer],
  ['ByteLevel', () => toByteAlphabet],
  ['SentencePiece', sentencePiece],
]);

/** A normalizer of a tokenizer.json; null when there is none. */
export function makeNormalizer(component: ComponentJson | null): Normalizer | null {
  if (component === null) return null;
  const make = MAKERS.get(component.type);
  if (make !== undefined) return make(component);
  const known = [...MAKERS.keys()].filter((name) => name !== 'SentencePiece');
  throw unsupportedModel('tokenizer.json', `a normalizer of type ${quoted(String(component.type))}`, known);
}

/** How many times longer a text may become: NFKC writes one character of Arabic as 18. */
const MAX_GROWTH = 32;
/** UTF-16 units. Published files replace by one or two. */
const MAX_REPLACEMENT = 64;

function grown(length: number, result: number): AutoglmError {
  return new AutoglmError(
    'invalid_parameter',
    `the tokenizer's normalizer makes ${result} characters of ${length}; at most ${MAX_GROWTH} times as many are allowed`,
    { hint: 'The tokenizer of this model is not made for such text; shorten it.' },
  );
}

/** A text of a model file that is put into other texts, perhaps many times. */
function replacementText(component: ComponentJson, key: string): string {
  const value = component[key];
  if (typeof value === 'string' && value.length <= MAX_REPLACEMENT) return value;
  throw invalidModelFile({
    file: 'tokenizer.json',
    where: `normalizer: ${component.type}.${key}`,
    expected: `text of at most ${MAX_REPLACEMENT} characters`,
    found: typeof value === 'string' ? `${value.length} characters` : `a value of type ${typeof value}`,
  });
}

function sequence(component: ComponentJson): Normalizer {
  const steps = componentList(component, 'normalizers').map((part) => makeNormalizer(part) as Normalizer);
  return (text, place) => {
    let result = text;
    for (const step of steps) {
      result = step(result, place);
      if (result.length > MAX_GROWTH * (text.length + MAX_REPLACEMENT))
        throw grown(text.length, result.length);
    }
    return result;
  };
}

/** The parts of a Sequence. */
export function componentList(component: ComponentJson, key: string): readonly ComponentJson[] {
  const parts = component[key];
  const isPart = (part: unknown): part is ComponentJson =>
    typeof part === 'object' && part !== null && typeof (part as ComponentJson).type === 'string';
  if (Array.isArray(parts) && parts.every(isPart)) return parts;
  throw invalidModelFile({
    file: 'tokenizer.json',
    where: key,
    expected: 'a list of objects with a type',
    found: quoted(JSON.stringify(parts) ?? 'nothing'),
  });
}

function strip({ strip_left, strip_right }: ComponentJson): Normalizer {
  return (text) => {
    const left = strip_left === false ? text : trimStart(text);
    return strip_right === false ? left : trimEnd(left);
  };
}

/** What a Replace or Split looks for: plain text, or matches of an expression. */
export function matchFinder(component: ComponentJson, role: string): (text: string) => number[] {
  const pattern = component.pattern as { readonly Regex?: unknown; readonly String?: unknown } | undefined;
  if (typeof pattern?.Regex === 'string') {
    const matcher = new PatternMatcher(pattern.Regex);
    return (text) => matcher.matches(text);
  }
  const literal = pattern?.String;
  if (typeof literal !== 'string' || literal === '') {
    throw unsupportedModel('tokenizer.json', `${role} ${component.type} without a pattern`, [
      'String',
      'Regex',
    ]);
  }
  return (text) => {
    const found: number[] = [];
    for (let at = text.indexOf(literal); at >= 0; at = text.indexOf(literal, at + literal.length)) {
      found.push(at, at + literal.length);
    }
    return found;
  };
}

function replace(component: ComponentJson): Normalizer {
  const find = matchFinder(component, 'normalizer');
  const content = replacementText(component, 'content');
  return (text) => {
    const found = find(text);
    let result = '';
    let end = 0;
    for (let i = 0; i < found.length; i += 2) {
      result += text.slice(end, found[i]) + content;
      end = found[i + 1] as number;
    }
    return found.length === 0 ? text : result + text.slice(end);
  };
}

function prepend(component: ComponentJson): Normalizer {
  const prefix = replacementText(component, 'prepend');
  return (text) => (text === '' ? '' : prefix + text);
}

const encoder = new TextEncoder();
const SPACE = alphabetCharacter(0x20);
const PRINTABLE = /^ ?[!-~]*$/;

/**
 * Each byte as its character of the byte alphabet. Most words are printable ASCII behind a space; the bytes of the others
 * are worked out here, since an encoder that is called once per word costs more than all the rest.
 */
export function toByteAlphabet(text: string): string {
  if (PRINTABLE.test(text)) return text.charCodeAt(0) === 0x20 ? SPACE + text.slice(1) : text;
  let result = '';
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) {
      result += alphabetCharacter(unit);
      continue;
    }
    const code = text.codePointAt(i) as number;
    if (code > 0xffff) {
      i += 1;
      result += alphabetCharacter(0xf0 | (code >> 18)) + continuation(code >> 12) + continuation(code >> 6);
    } else if (code > 0x7ff) result += alphabetCharacter(0xe0 | (code >> 12)) + continuation(code >> 6);
    else result += alphabetCharacter(0xc0 | (code >> 6));
    result += continuation(code);
  }
  return result;
}

/** The character of a UTF-8 byte that continues another: its low six bits are those of `bits`. */
function continuation(bits: number): string {
  return alphabetCharacter(0x80 | (bits & 0x3f));
}

function charsmapOf(component: ComponentJson): Charsmap | null {
  const encoded = component.precompiled_charsmap ?? '';
  if (typeof encoded === 'string') {
    if (encoded === '') return null;
    if (/^[A-Za-z0-9+/]+={0,2}$/.test(encoded)) {
      return new Charsmap(Buffer.from(encoded, 'base64'), 'normalizer.precompiled_charsmap');
    }
  }
  throw invalidModelFile({
    file: 'tokenizer.json',
    where: 'normalizer.precompiled_charsmap',
    expected: 'base64 text',
    found: quoted(JSON.stringify(encoded) ?? 'nothing'),
  });
}

/** Longer graphemes are looked up character by character, as in the reference. */
const MAX_GRAPHEME_BYTES = 6;
const MAX_KNOWN_GRAPHEMES = 4096;

/** Rules are looked up per grapheme, and of several that match the shortest counts: the reference does so. */
function precompiled(component: ComponentJson): Normalizer {
  const charsmap = charsmapOf(component);
  if (charsmap === null) return (text) => text;
  const cutter = new GraphemeCutter();
  const known = new Map<string, string>();
  const transform = (text: string): string | null => {
    const bytes = encoder.encode(text);
    return charsmap.shortestAt(bytes, 0, bytes.length)?.text ?? null;
  };
  const replaceGrapheme = (grapheme: string): string => {
    const whole = Buffer.byteLength(grapheme) < MAX_GRAPHEME_BYTES ? transform(grapheme) : null;
    if (whole !== null) return whole;
    let result = '';
    for (const character of grapheme) result += transform(character) ?? character;
    return result;
  };
  return (text) => {
    let result = '';
    const found = cutter.cut(text);
    for (let i = 0; i < found.length; i += 2) {
      const grapheme = text.slice(found[i], found[i + 1]);
      let replaced = known.get(grapheme);
      if (replaced === undefined) {
        replaced = replaceGrapheme(grapheme);
        if (known.size >= MAX_KNOWN_GRAPHEMES) known.clear();
        if (grapheme.length < MAX_GRAPHEME_BYTES) known.set(grapheme, replaced);
      }
      result += replaced;
    }
    return result;
  };
}

/** Not a part of tokenizer.json files: what the normalizer of a SentencePiece model does, in one component. */
function sentencePiece(component: ComponentJson): Normalizer {
  const blob = component.charsmap as Uint8Array | null;
  const symbols = component.userDefined as readonly string[];
  const userDefined = new StringTrie<string>();
  for (const symbol of symbols) userDefined.add(symbol, symbol);
  const rules = {
    charsmap: blob === null ? null : new Charsmap(blob, 'precompiled_charsmap'),
    addDummyPrefix: component.addDummyPrefix === true,
    removeExtraWhitespaces: component.removeExtraWhitespaces === true,
    escapeWhitespaces: component.escapeWhitespaces !== false,
    treatWhitespaceAsSuffix: component.treatWhitespaceAsSuffix === true,
    userDefined: symbols.length === 0 ? null : userDefined,
  };
  return (text, place) => sentencePieceText(text, rules, place);
}
