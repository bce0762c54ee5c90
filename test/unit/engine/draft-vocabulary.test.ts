import { describe, expect, test } from 'vitest';
import { checkDraftVocabulary } from '../../../lib/engine/draft-vocabulary';
import type { TokenTable } from '../../../lib/tokenizer/token-table';

/** Tokens in brackets are control tokens; '' is an id that the vocabulary leaves out. */
function vocabulary(pieces: readonly string[], hasLanguageHead = true) {
  const offsets = Uint32Array.from(
    { length: pieces.length + 1 },
    (_, i) => pieces.slice(0, i).join('').length,
  );
  const isSpecial = Uint8Array.from(pieces, (piece) => (piece.startsWith('[') ? 1 : 0));
  const tokenTable: TokenTable = {
    bytes: new TextEncoder().encode(pieces.join('')),
    offsets,
    isSpecial,
    numLeadingSpaces: 0,
    hasTrailingSpace: false,
  };
  return { tokenTable, hasLanguageHead };
}

const WORDS = ['a', 'b', 'ab', '[end]'];

describe('a draft model may', () => {
  test.each([
    ['have the same tokens', WORDS],
    ['have a head padded further', [...WORDS, '', '', '']],
    ['have a head padded less', WORDS.slice(0, 4)],
    ['know further control tokens', [...WORDS, '[tool]']],
    ['lack control tokens', WORDS.slice(0, 3)],
  ])('%s', (_name, pieces) => {
    expect(() => checkDraftVocabulary(vocabulary(WORDS), vocabulary(pieces))).not.toThrow();
    expect(() => checkDraftVocabulary(vocabulary([...WORDS, '', '']), vocabulary(pieces))).not.toThrow();
  });
});

describe('a draft model is refused that', () => {
  test.each([
    ['spells a token otherwise', ['a', 'c', 'ab', '[end]'], 'token 1 is "c" in it and "b" in the model'],
    [
      'has another control token',
      ['a', 'b', 'ab', '[stop]'],
      'token 3 is "[stop]" in it and "[end]" in the model',
    ],
    [
      'has the tokens in another order',
      ['b', 'a', 'ab', '[end]'],
      'token 0 is "b" in it and "a" in the model',
    ],
    ['knows further words', [...WORDS, 'c'], 'token 4 is "c" in it and unknown in the model'],
    ['lacks words', ['a', 'b'], 'token 2 is unknown in it and "ab" in the model'],
    [
      'splits the same text elsewhere',
      ['a', 'ba', 'b', '[end]'],
      'token 1 is "ba" in it and "b" in the model',
    ],
  ])('%s', (_name, pieces, found) => {
    expect(() => checkDraftVocabulary(vocabulary(WORDS), vocabulary(pieces))).toThrow(found);
  });

  test('generates nothing', () => {
    expect(() => checkDraftVocabulary(vocabulary(WORDS), vocabulary(WORDS, false))).toThrow(
      'the draft model generates nothing',
    );
    expect(() => checkDraftVocabulary(vocabulary(WORDS, false), vocabulary(WORDS))).toThrow(
      'the model generates nothing',
    );
  });
});
