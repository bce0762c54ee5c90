import { quoted, unsupportedModel } from '../model/model-file-error';
import { componentList } from './stages/normalizer';
import type { ComponentJson } from './vocabulary/tokenizer-json';

/** How the pieces of a vocabulary spell text: what a tokenizer.json's decoder says, as a rule for single tokens. */
export interface Spelling {
  /** Pieces are written in GPT-2's byte alphabet. */
  readonly isByteAlphabet: boolean;
  /** `<0x00>` to `<0xFF>` are bytes. */
  readonly hasByteTokens: boolean;
  /** Spaces that are left out at the start of a text. */
  readonly numLeadingSpaces: number;
  readonly hasTrailingSpace: boolean;
  /** The text of a piece, at most one UTF-16 unit longer than it. */
  readonly textOf: (piece: string, isAdded: boolean) => string;
}

const PLAIN: Spelling = {
  isByteAlphabet: false,
  hasByteTokens: false,
  numLeadingSpaces: 0,
  hasTrailingSpace: false,
  textOf: (piece) => piece,
};

const SUPPORTED = [
  'ByteLevel',
  'Metaspace',
  'WordPiece',
  'BPEDecoder',
  'Sequence of ByteFallback, Replace, Strip',
];

/** Without a decoder tokens are words with spaces between them. */
export function spellingOf(decoder: ComponentJson | null): Spelling {
  switch (decoder?.type) {
    case undefined:
      return spacedWords((piece) => piece);
    case 'ByteLevel':
      return { ...PLAIN, isByteAlphabet: true };
    case 'Metaspace':
      return metaspace(decoder);
    case 'WordPiece':
      return wordPiece(decoder);
    case 'BPEDecoder':
      return suffixed(decoder);
    case 'Sequence':
      return sequence(componentList(decoder, 'decoders'));
    case 'ByteFallback':
    case 'Fuse':
      return sequence([decoder]);
    default:
      throw unsupportedModel(
        'tokenizer.json: decoder',
        `a decoder of type ${quoted(String(decoder?.type))}`,
        SUPPORTED,
      );
  }
}

function spacedWords(textOf: (piece: string) => string): Spelling {
  return { ...PLAIN, numLeadingSpaces: 1, textOf: (piece) => textOf(` ${piece}`) };
}

function metaspace(decoder: ComponentJson): Spelling {
  const mark = typeof decoder.replacement === 'string' ? decoder.replacement : '\u2581';
  const scheme = decoder.prepend_scheme ?? (decoder.add_prefix_space === false ? 'never' : 'always');
  return {
    ...PLAIN,
    hasByteTokens: true,
    numLeadingSpaces: scheme === 'never' ? 0 : 1,
    textOf: (piece) => piece.replaceAll(mark, ' '),
  };
}

/** What the decoder's clean-up puts together, in this order. */
const CLEAN_UP: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function wordPiece(decoder: ComponentJson): Spelling {
  const prefix = typeof decoder.prefix === 'string' ? decoder.prefix : '##';
  const cleanUp = (text: string): string => {
    let result = text;
    if (decoder.cleanup !== false) for (const [from, to] of CLEAN_UP) result = result.replaceAll(from, to);
    return result;
  };
  const textOf = (piece: string): string =>
    cleanUp(prefix !== '' && piece.startsWith(prefix) ? piece.slice(prefix.length) : ` ${piece}`);
  return { ...PLAIN, numLeadingSpaces: 1, textOf };
}

function suffixed(decoder: ComponentJson): Spelling {
  const suffix = typeof decoder.suffix === 'string' ? decoder.suffix : '</w>';
  const textOf = (piece: string): string => (suffix === '' ? piece : piece.replaceAll(suffix, ' '));
  return { ...PLAIN, hasTrailingSpace: true, textOf };
}

/** Replace, ByteFallback, Fuse and Strip, as SentencePiece models converted to tokenizer.json have them; parts that do nothing to single tokens. */
function sequence(parts: readonly ComponentJson[]): Spelling {
  let spelling = PLAIN;
  for (const part of parts) spelling = withPart(spelling, part);
  return spelling;
}

function withPart(spelling: Spelling, part: ComponentJson): Spelling {
  switch (part.type) {
    case 'Fuse':
      return spelling;
    case 'ByteFallback':
      return { ...spelling, hasByteTokens: true };
    case 'Strip':
      if (part.content === ' ' && typeof part.start === 'number' && (part.stop ?? 0) === 0) {
        return { ...spelling, numLeadingSpaces: part.start };
      }
      break;
    case 'Replace': {
      const from = (part.pattern as { readonly String?: unknown } | undefined)?.String;
      const to = part.content;
      if (typeof from !== 'string' || typeof to !== 'string' || from === '' || to.length > from.length) break;
      const { textOf } = spelling;
      return { ...spelling, textOf: (piece, isAdded) => textOf(piece, isAdded).replaceAll(from, () => to) };
    }
    default:
      return spellingOf(part);
  }
  throw unsupportedModel('tokenizer.json: decoder', `a decoder ${quoted(JSON.stringify(part))}`, SUPPORTED);
}
