import { quoted, unsupportedModel } from '../../model/model-file-error';
import { PatternMatcher } from '../pattern/pattern-matcher';
import { type ComponentJson, GPT2_WORDS } from '../vocabulary/tokenizer-json';
import { componentList, matchFinder, toByteAlphabet } from './normalizer';

/** Cuts a text into words, appended to `words`. `isFirst`: nothing stands before the text. */
export type PreTokenizer = (text: string, isFirst: boolean, words: string[]) => void;

type Maker = (component: ComponentJson) => PreTokenizer;

/** What the pre-tokenizer Whitespace takes for words; the classes of patterns are another library's. */
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}';
const PUNCTUATION = '[\\p{P}$+<=>^`|~]';

const MAKERS: ReadonlyMap<string, Maker> = new Map<string, Maker>([
  ['Sequence', sequence],
  ['ByteLevel', byteLevel],
  ['Split', split],
  ['Metaspace', metaspace],
  ['BertPreTokenizer', bert],
  ['Whitespace', () => cutAt(finder(`[${WORD}]+|[^${WORD}\\s]+`), 'Removed', true)],
  ['WhitespaceSplit', () => cutAt(finder('\\s'), 'Removed', false)],
  [
    'Digits',
    ({ individual_digits }) =>
      cutAt(finder('\\p{N}'), individual_digits === true ? 'Isolated' : 'Contiguous', false),
  ],
  ['Punctuation', ({ behavior }) => cutAt(finder(PUNCTUATION), behaviorOf(behavior ?? 'Isolated'), false)],
  ['CharDelimiterSplit', charDelimiterSplit],
]);

/** A pre-tokenizer of a tokenizer.json; null when there is none. */
export function makePreTokenizer(component: ComponentJson | null): PreTokenizer | null {
  if (component === null) return null;
  const make = MAKERS.get(component.type);
  if (make !== undefined) return make(component);
  throw unsupportedModel('tokenizer.json', `a pre_tokenizer of type ${quoted(String(component.type))}`, [
    ...MAKERS.keys(),
  ]);
}

function finder(pattern: string): (text: string) => number[] {
  const matcher = new PatternMatcher(pattern);
  return (text) => matcher.matches(text);
}

function sequence(component: ComponentJson): PreTokenizer {
  const [first, ...others] = componentList(component, 'pretokenizers').map(
    (part) => makePreTokenizer(part) as PreTokenizer,
  );
  if (first === undefined) return (text, _, words) => void words.push(text);
  return (text, isFirst, words) => {
    let pieces: string[] = [];
    first(text, isFirst, pieces);
    for (const cut of others) {
      const smaller: string[] = [];
      for (const [i, piece] of pieces.entries()) cut(piece, isFirst && i === 0, smaller);
      pieces = smaller;
    }
    for (const piece of pieces) words.push(piece);
  };
}

function byteLevel({ add_prefix_space, use_regex }: ComponentJson): PreTokenizer {
  const addsSpace = add_prefix_space !== false;
  const matcher = use_regex === false ? null : new PatternMatcher(GPT2_WORDS);
  return (text, _, words) => {
    const spaced = addsSpace && !text.startsWith(' ') ? ` ${text}` : text;
    if (matcher === null) {
      words.push(toByteAlphabet(spaced));
      return;
    }
    // The expression matches every character.
    const found = matcher.matches(spaced);
    for (let i = 0; i < found.length; i += 2)
      words.push(toByteAlphabet(spaced.slice(found[i], found[i + 1])));
  };
}

const BEHAVIORS = ['Isolated', 'Removed', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const;
type Behavior = (typeof BEHAVIORS)[number];

function behaviorOf(value: unknown): Behavior {
  const found = BEHAVIORS.find((name) => name === value);
  if (found !== undefined) return found;
  throw unsupportedModel(
    'tokenizer.json',
    `a pre_tokenizer with behavior ${quoted(String(value))}`,
    BEHAVIORS,
  );
}

function split(component: ComponentJson): PreTokenizer {
  const find = matchFinder(component, 'pre_tokenizer');
  return cutAt(find, behaviorOf(component.behavior), component.invert === true);
}

function charDelimiterSplit({ delimiter }: ComponentJson): PreTokenizer {
  const pattern = { String: String(delimiter ?? '') };
  return cutAt(matchFinder({ type: 'CharDelimiterSplit', pattern }, 'pre_tokenizer'), 'Removed', false);
}

/** Bert's words: white space is dropped, each punctuation mark is a word. */
function bert(): PreTokenizer {
  const find = finder(`[^\\s${PUNCTUATION.slice(1, -1)}]+|${PUNCTUATION}`);
  return cutAt(find, 'Removed', true);
}

function metaspace(component: ComponentJson): PreTokenizer {
  const mark = typeof component.replacement === 'string' ? component.replacement : '\u2581';
  // Old files say add_prefix_space instead of prepend_scheme.
  const scheme = component.prepend_scheme ?? (component.add_prefix_space === false ? 'never' : 'always');
  const pieces = cutAt(
    matchFinder({ type: 'Split', pattern: { String: mark } }, ''),
    'MergedWithNext',
    false,
  );
  return (text, isFirst, words) => {
    let marked = text.replaceAll(' ', mark);
    const isPrefixed = scheme === 'always' || (scheme === 'first' && isFirst);
    if (isPrefixed && !marked.startsWith(mark)) marked = mark + marked;
    if (component.split === false) words.push(marked);
    else pieces(marked, isFirst, words);
  };
}

/** Cuts at the matches, or with `inverts` at what lies between them. */
function cutAt(find: (text: string) => number[], behavior: Behavior, inverts: boolean): PreTokenizer {
  return (text, _, words) => {
    const found = find(text);
    const borders: number[] = [0];
    const isCut: boolean[] = [];
    const add = (end: number, isMatch: boolean): void => {
      if (end === borders.at(-1) && !isMatch) return;
      borders.push(end);
      isCut.push(isMatch !== inverts);
    };
    for (let i = 0; i < found.length; i += 2) {
      add(found[i] as number, false);
      add(found[i + 1] as number, true);
    }
    add(text.length, false);
    joinPieces(text, borders, isCut, behavior, words);
  };
}

/** Piece i lies between borders i and i + 1. */
function joinPieces(
  text: string,
  borders: readonly number[],
  isCut: readonly boolean[],
  behavior: Behavior,
  words: string[],
): void {
  const joins = joinRule(behavior, isCut);
  let start = 0;
  for (let i = 0; i < isCut.length; i += 1) {
    const end = borders[i + 1] as number;
    if (i + 1 < isCut.length && joins(i)) continue;
    const isKept = end > start && (behavior !== 'Removed' || isCut[i] === false);
    if (isKept) words.push(text.slice(start, end));
    start = end;
  }
}

/** Whether piece i goes together with the one after it. */
function joinRule(behavior: Behavior, isCut: readonly boolean[]): (i: number) => boolean {
  switch (behavior) {
    case 'Isolated':
    case 'Removed':
      return () => false;
    case 'Contiguous':
      return (i) => isCut[i] === isCut[i + 1];
    case 'MergedWithPrevious':
      return (i) => isCut[i] === false && isCut[i + 1] === true;
    case 'MergedWithNext':
      return (i) => isCut[i] === true && isCut[i + 1] === false;
  }
}
