import { quoted, unsupportedModel } from '../../model/model-file-error';
import { checkPattern } from './pattern-check';
import { BYTES_TO_ALPHABET, type ComponentJson, GPT2_WORDS, splitOn } from './tokenizer-json';

/**
 * The library knows more components than it computes as the reference does. Those it gets right are passed on, those it
 * would get wrong are written in terms of others, and the rest is refused by name: wrong tokens would go unnoticed.
 */
type Rewrite = (component: ComponentJson) => ComponentJson;

const same: Rewrite = (component) => component;

const NORMALIZERS: ReadonlyMap<string, Rewrite> = new Map<string, Rewrite>([
  [
    'Sequence',
    (component) => ({ ...component, normalizers: partsOf(component, 'normalizers', supportedNormalizer) }),
  ],
  ['NFC', same],
  ['NFD', same],
  ['NFKC', same],
  ['NFKD', same],
  ['Lowercase', same],
  ['Prepend', same],
  ['Replace', replaceLiterally],
]);

const PRE_TOKENIZERS: ReadonlyMap<string, Rewrite> = new Map<string, Rewrite>([
  [
    'Sequence',
    (component) => ({
      ...component,
      pretokenizers: partsOf(component, 'pretokenizers', supportedPreTokenizer),
    }),
  ],
  ['ByteLevel', byteLevel],
  // The library's own Digits and Whitespace know ASCII only.
  ['Digits', ({ individual_digits }) => splitOn(individual_digits === true ? '\\p{N}' : '\\p{N}+')],
  ['Whitespace', () => keepMatches('\\w+|[^\\w\\s]+')],
  ['WhitespaceSplit', () => keepMatches('\\S+')],
  ['Split', split],
  ['Metaspace', metaspace],
]);

export function supportedNormalizer(component: ComponentJson | null): ComponentJson | null {
  return component === null ? null : rewrite(NORMALIZERS, component, 'normalizer');
}

export function supportedPreTokenizer(component: ComponentJson | null): ComponentJson | null {
  return component === null ? null : rewrite(PRE_TOKENIZERS, component, 'pre_tokenizer');
}

function rewrite(rules: ReadonlyMap<string, Rewrite>, component: ComponentJson, role: string): ComponentJson {
  const rule = rules.get(component.type);
  if (rule === undefined)
    throw unsupported(role, `a ${role} of type ${quoted(String(component.type))}`, [...rules.keys()]);
  return rule(component);
}

function partsOf(
  component: ComponentJson,
  key: string,
  support: (part: ComponentJson) => ComponentJson | null,
): unknown[] {
  const parts = component[key];
  if (!Array.isArray(parts)) throw unsupported(key, 'a Sequence without a list', ['lists of components']);
  return parts.map((part: unknown) => {
    if (typeof part !== 'object' || part === null || typeof (part as ComponentJson).type !== 'string') {
      throw unsupported(key, 'a component without a type', ['components with a type']);
    }
    return support(part as ComponentJson);
  });
}

function keepMatches(pattern: string): ComponentJson {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: true };
}

/** The library's own words differ from the reference at U+0085 and U+FEFF, which are white space to only one of them. */
function byteLevel(component: ComponentJson): ComponentJson {
  if (component.add_prefix_space === true || component.use_regex === false) return component;
  return { type: 'Sequence', pretokenizers: [splitOn(GPT2_WORDS), BYTES_TO_ALPHABET] };
}

function split(component: ComponentJson): ComponentJson {
  const { behavior, invert } = component;
  checkedPattern(component, 'pre_tokenizer');
  const isSupported = invert === true ? behavior === 'Removed' : behavior === 'Isolated';
  if (isSupported) return { ...component, invert: invert === true };
  throw unsupported(
    'pre_tokenizer',
    `Split with behavior ${quoted(String(behavior))}, invert ${String(invert)}`,
    ['Isolated', 'Removed with invert'],
  );
}

function metaspace(component: ComponentJson): ComponentJson {
  const replacement = typeof component.replacement === 'string' ? component.replacement : '\u2581';
  // Old files say add_prefix_space instead of prepend_scheme.
  const scheme = component.prepend_scheme ?? (component.add_prefix_space === false ? 'never' : 'always');
  const marked: ComponentJson = { type: 'Metaspace', replacement, prepend_scheme: scheme };
  if (component.split === false) return marked;
  return { type: 'Sequence', pretokenizers: [marked, splitOn(`${replacement}[^${replacement}]*`)] };
}

/** `$` is an ordinary character in the content, unlike in JavaScript's replaceAll. */
function replaceLiterally(component: ComponentJson): ComponentJson {
  checkedPattern(component, 'normalizer');
  return { ...component, content: String(component.content ?? '').replaceAll('$', '$$$$') };
}

function checkedPattern(component: ComponentJson, role: string): void {
  const pattern = component.pattern as { readonly Regex?: unknown; readonly String?: unknown } | undefined;
  if (typeof pattern?.Regex === 'string') checkPattern(pattern.Regex);
  else if (typeof pattern?.String !== 'string')
    throw unsupported(role, `${component.type} without a pattern`, ['String', 'Regex']);
}

function unsupported(role: string, what: string, supported: readonly string[]) {
  return unsupportedModel(`tokenizer.json: ${role}`, what, supported);
}
