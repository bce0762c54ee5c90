// The package's own declarations are marked as an ES module, which a CommonJS file may not import, though its code has
// both forms. This is the part of its surface that is used.
declare module '@huggingface/tokenizers' {
  interface Normalizer {
    normalize(text: string): string;
  }
  interface PreTokenizer {
    pre_tokenize(text: string, options?: { section_index?: number }): string[];
  }
  interface Model {
    tokens_to_ids: ReadonlyMap<string, number>;
    unk_token_id: number | undefined;
    /** Pre-tokens to pieces. */
    _call(words: string[]): string[];
  }
  export class Tokenizer {
    readonly normalizer: Normalizer | null;
    readonly pre_tokenizer: PreTokenizer | null;
    readonly model: Model | null;
    constructor(tokenizerJson: object, config: object);
  }
}
