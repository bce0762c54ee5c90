import { invalidModelFile, unsupportedModel } from '../../../model/model-file-error';
import { PieceType, type PieceVocabulary } from '../piece-vocabulary';
import { MAX_TOKEN_ID } from '../vocabulary-limits';
import { MessageReader } from './protobuf';

const MODEL_TYPES = ['Unigram', 'BPE', 'word', 'char'] as const;

export interface SentencePieceModel {
  readonly type: 'BPE' | 'Unigram';
  readonly vocabulary: PieceVocabulary;
  readonly bosId: number | null;
  readonly eosId: number | null;
}

/**
 * Reads a SentencePiece model file.
 * Source: sentencepiece, src/sentencepiece_model.proto (numbers of fields, defaults).
 */
export function readSentencePieceModel(content: Uint8Array, fileName: string): SentencePieceModel {
  const pieces: string[] = [];
  const types: number[] = [];
  const scores: number[] = [];
  let trainer = { type: 1, treatWhitespaceAsSuffix: false, bosId: 1, eosId: 2 };
  let rules = {
    charsmap: null as Uint8Array | null,
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
  };
  const file = new MessageReader(fileName, content);
  for (const field of file.fields()) {
    if (field.number === 1) {
      const piece = readPiece(file.message(field));
      if (pieces.push(piece.text) - 1 > MAX_TOKEN_ID) {
        throw file.fault('the pieces', `at most ${MAX_TOKEN_ID + 1}`, 'more', field.offset);
      }
      types.push(piece.type);
      scores.push(piece.score);
    } else if (field.number === 2) trainer = readTrainer(file.message(field), trainer);
    else if (field.number === 3) rules = readRules(file.message(field), rules);
  }
  const lacks = (expected: string) =>
    invalidModelFile({ file: fileName, where: 'the vocabulary', expected, found: 'none' });
  if (pieces.length === 0) throw lacks('pieces');
  const unknownId = types.indexOf(PieceType.unknown);
  if (unknownId < 0) throw lacks('a piece of type unknown');
  const type = MODEL_TYPES[trainer.type - 1];
  if (type !== 'BPE' && type !== 'Unigram') {
    throw unsupportedModel(fileName, `a model of type ${type ?? trainer.type}`, ['BPE', 'Unigram']);
  }
  const control = (id: number) => (types[id] === PieceType.control ? id : null);
  return {
    type,
    vocabulary: {
      file: fileName,
      where: 'piece',
      pieces,
      types,
      scores: Float32Array.from(scores),
      unknownId,
      endings: new Set(),
      rules: { ...rules, treatWhitespaceAsSuffix: trainer.treatWhitespaceAsSuffix },
    },
    bosId: control(trainer.bosId),
    eosId: control(trainer.eosId),
  };
}

function readPiece(message: MessageReader) {
  let text = '';
  let score = 0;
  let type: number = PieceType.normal;
  for (const field of message.fields()) {
    if (field.number === 1) text = message.textOf(field);
    else if (field.number === 2) score = message.floatOf(field);
    else if (field.number === 3) {
      type = message.integerOf(field);
      if (type < 1 || type > 6) throw message.fault('the type of a piece', '1..6', `${type}`, field.offset);
    }
  }
  return { text, score, type };
}

interface Trainer {
  readonly type: number;
  readonly treatWhitespaceAsSuffix: boolean;
  readonly bosId: number;
  readonly eosId: number;
}

function readTrainer(message: MessageReader, defaults: Trainer): Trainer {
  let trainer = defaults;
  for (const field of message.fields()) {
    if (field.number === 3) trainer = { ...trainer, type: message.integerOf(field) };
    else if (field.number === 24) {
      trainer = { ...trainer, treatWhitespaceAsSuffix: message.integerOf(field) !== 0 };
    } else if (field.number === 41) trainer = { ...trainer, bosId: message.integerOf(field) };
    else if (field.number === 42) trainer = { ...trainer, eosId: message.integerOf(field) };
  }
  return trainer;
}

type Rules = Omit<PieceVocabulary['rules'], 'treatWhitespaceAsSuffix'>;

function readRules(message: MessageReader, defaults: Rules): Rules {
  let rules = defaults;
  for (const field of message.fields()) {
    if (field.number === 2) {
      const charsmap = message.bytesOf(field);
      rules = { ...rules, charsmap: charsmap.length === 0 ? null : charsmap };
    } else if (field.number === 3) rules = { ...rules, addDummyPrefix: message.integerOf(field) !== 0 };
    else if (field.number === 4) rules = { ...rules, removeExtraWhitespaces: message.integerOf(field) !== 0 };
    else if (field.number === 5) rules = { ...rules, escapeWhitespaces: message.integerOf(field) !== 0 };
  }
  return rules;
}
