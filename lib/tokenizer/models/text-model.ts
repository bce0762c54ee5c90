import type { ModelJson } from '../vocabulary/tokenizer-json';
import { BpeModel } from './bpe-model';
import { CachedModel } from './cached-model';
import { UnigramModel } from './unigram-model';
import { WholeWordModel } from './whole-word-model';
import { WordPieceModel } from './word-piece-model';

/** Turns the words that a text was cut into into token ids. */
export interface TextModel {
  /** Appends the ids of a word. False when the vocabulary cannot express it; what was appended is then of no use. */
  encode(word: string, ids: number[]): boolean;
}

/** `hidden`: tokens that no text is to become, because they steer the model. */
export function makeTextModel(json: ModelJson, hidden: ReadonlySet<number>): TextModel {
  switch (json.type) {
    case 'BPE':
      return new CachedModel(new BpeModel(json, hidden));
    case 'Unigram':
      return new CachedModel(new UnigramModel(json, hidden));
    case 'WordPiece':
      return new CachedModel(new WordPieceModel(json, hidden));
    case 'WordLevel':
      return new WholeWordModel(json, hidden);
  }
}
