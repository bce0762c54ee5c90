import type { JsonObject, TokenizerModelSource } from '../../../model/checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../../../model/model-file-error';
import { textTemplate } from '../boundary-tokens';
import { PieceType, type PieceVocabulary, pieceVocabularyJson } from '../piece-vocabulary';
import type { AddedTokenJson, ComponentJson, TokenizerJson } from '../tokenizer-json';
import { addedTokensOf, boolean, byContent, classOf } from './class-settings';
import { readSentencePieceModel, type SentencePieceModel } from './sentencepiece-model';
import { CHATGLM3_SPECIAL_TOKENS, consecutiveTokens } from './special-tokens';

/** What the code of a tokenizer class makes of a SentencePiece model. */
interface SentencePieceClass {
  /** The pieces with the ids of the class. */
  readonly align: (model: SentencePieceModel) => SentencePieceModel;
  /** Tokens that it puts behind `numPieces` pieces; `has` tells which pieces there are. */
  readonly added: (
    numPieces: number,
    config: JsonObject | null,
    has: (piece: string) => boolean,
  ) => readonly AddedTokenJson[];
  readonly template: (
    added: readonly AddedTokenJson[],
    model: SentencePieceModel,
    config: JsonObject | null,
  ) => ComponentJson | null;
}

/** Llama, Gemma and all others whose class does as their model says. */
const PLAIN: SentencePieceClass = {
  align: (model) => model,
  added: () => [],
  template: (added, { type, bosId, eosId }, config) => {
    const find = (id: number | null) => added.find((token) => token.id === id);
    const isBpe = type === 'BPE';
    const bos = (boolean(config, 'add_bos_token') ?? isBpe) ? find(bosId) : undefined;
    const eos = (boolean(config, 'add_eos_token') ?? !isBpe) ? find(eosId) : undefined;
    return textTemplate(bos, eos);
  },
};

const CHATGLM: SentencePieceClass = {
  align: (model) => model,
  added: (numPieces) => consecutiveTokens(CHATGLM3_SPECIAL_TOKENS, numPieces),
  template: (added) => textTemplate(byContent(added, ['[gMASK]', 'sop']), undefined),
};

/** Ids of fairseq: four special tokens, the pieces behind the model's own three, the mask. */
const XLM_ROBERTA: SentencePieceClass = {
  align: (model) => {
    const { vocabulary } = model;
    const own = vocabulary.pieces.slice(0, 3);
    if (own.join(' ') !== '<unk> <s> </s>') {
      throw invalidModelFile({
        file: vocabulary.file,
        where: 'the first pieces',
        expected: '<unk>, <s> and </s>',
        found: own.map(quoted).join(', ') || 'nothing',
      });
    }
    return { ...model, vocabulary: asFairseq(vocabulary), bosId: 0, eosId: 2 };
  },
  added: (numPieces) => [{ id: numPieces - 1, content: '<mask>', special: true, lstrip: true }],
  template: (added) => {
    const [bos, eos] = byContent(added, ['<s>', '</s>']);
    return textTemplate(bos, eos, eos);
  },
};

function asFairseq(vocabulary: PieceVocabulary): PieceVocabulary {
  const { control, unknown } = PieceType;
  const types = Array.from(vocabulary.types).slice(3);
  return {
    ...vocabulary,
    pieces: ['<s>', '<pad>', '</s>', '<unk>', ...vocabulary.pieces.slice(3), '<mask>'],
    types: [control, control, control, unknown, ...types, control],
    scores: Float32Array.from([0, 0, 0, 0, ...vocabulary.scores.subarray(3), 0]),
    unknownId: 3,
  };
}

const MAX_SENTINELS = 1000;

/** T5 and mT5: sentinels behind the pieces, the first one last, unless the model has them itself. */
const T5: SentencePieceClass = {
  align: (model) => model,
  added: (numPieces, config, has) => {
    const stated = config?.extra_ids ?? 100;
    const count = typeof stated === 'number' && stated <= MAX_SENTINELS ? stated : 0;
    if (has('<extra_id_0>')) return [];
    const names = Array.from({ length: count }, (_, i) => `<extra_id_${count - 1 - i}>`);
    return consecutiveTokens(names, numPieces);
  },
  template: (added) => textTemplate(undefined, byContent(added, ['</s>'])[0]),
};

const CLASSES: ReadonlyMap<string, SentencePieceClass> = new Map([
  ['ChatGLMTokenizer', CHATGLM],
  ['XLMRobertaTokenizer', XLM_ROBERTA],
  ['T5Tokenizer', T5],
  ['MT5Tokenizer', T5],
]);
/** The class of a file's name, where a checkpoint names none. */
const CLASS_OF_FILE: Readonly<Record<string, string>> = {
  'sentencepiece.bpe.model': 'XLMRobertaTokenizer',
  'spiece.model': 'T5Tokenizer',
};

/** A tokenizer.model does as it says whatever its class is called; other names belong to classes that change ids or rules. */
function sentencePieceClass({ fileName, tokenizerConfig }: TokenizerModelSource): SentencePieceClass {
  const ofFile = CLASS_OF_FILE[fileName];
  const name = classOf(tokenizerConfig) || (ofFile ?? '');
  const found = CLASSES.get(name);
  if (found !== undefined) return found;
  if (ofFile === undefined) return PLAIN;
  throw unsupportedModel(
    fileName,
    `a tokenizer of class ${quoted(name)} without tokenizer.json`,
    [...CLASSES.keys()],
    'Save the tokenizer once with transformers, which writes tokenizer.json.',
  );
}

/** A SentencePiece model as its tokenizer class has it. Encoded as SentencePiece does, of which transformers' rules differ on rare characters. */
export function sentencePieceJson(source: TokenizerModelSource): TokenizerJson {
  const { tokenizerConfig: config, fileName, content } = source;
  const rules = sentencePieceClass(source);
  const sentencePiece = rules.align(readSentencePieceModel(content, fileName));
  const { type, vocabulary } = sentencePiece;
  const { added: pieces, normalizer, decoder, model } = pieceVocabularyJson(vocabulary, type);
  const special = rules.added(vocabulary.pieces.length, config, (piece) => model.vocab.has(piece));
  const added = addedTokensOf(source, [...pieces, ...special]);
  return {
    added_tokens: added,
    normalizer,
    pre_tokenizer: null,
    post_processor: rules.template(added, sentencePiece, config),
    decoder,
    model,
  };
}
