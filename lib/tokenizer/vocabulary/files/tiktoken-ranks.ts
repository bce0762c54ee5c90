import { invalidModelFile, quoted } from '../../../model/model-file-error';
import { alphabetCharacter } from '../../byte-alphabet';
import { mergesOfPieces } from '../piece-merges';
import type { BpeModelJson } from '../tokenizer-json';
import { MAX_TOKEN_ID } from '../vocabulary-limits';

const FILE = 'tokenizer.model';
const LINE = /^([A-Za-z0-9+/]+={0,2}) (\d{1,7})\r?$/;

/** Whether a tokenizer.model holds tiktoken ranks. A SentencePiece model begins with a line feed, its first field. */
export function isTiktokenRanks(content: Uint8Array): boolean {
  const first = Buffer.from(content.subarray(0, 4096)).toString('latin1').split('\n', 1)[0] ?? '';
  return LINE.test(first);
}

/**
 * Reads lines of base64 bytes and their rank, which is the id. A byte string that has a rank is taken whole; others are
 * joined from bytes, always the neighbours whose concatenation has the lowest rank.
 */
export function readTiktokenRanks(content: Uint8Array): BpeModelJson {
  const vocab = new Map<string, number>();
  const isTaken = new Uint8Array(MAX_TOKEN_ID + 1);
  const lines = Buffer.from(content.buffer, content.byteOffset, content.length)
    .toString('latin1')
    .split('\n');
  for (const [i, line] of lines.entries()) {
    if (line === '' || line === '\r') continue;
    const [, base64, rankText] = LINE.exec(line) ?? [];
    if (base64 === undefined || rankText === undefined)
      throw fault(i, 'base64 bytes and a rank', quoted(line));
    const rank = Number(rankText);
    if (rank > MAX_TOKEN_ID) throw fault(i, `a rank in 0..${MAX_TOKEN_ID}`, rankText);
    let piece = '';
    for (const byte of Buffer.from(base64, 'base64')) piece += alphabetCharacter(byte);
    if (isTaken[rank] === 1 || vocab.has(piece)) throw fault(i, 'bytes and ranks that differ', quoted(line));
    isTaken[rank] = 1;
    vocab.set(piece, rank);
  }
  for (let byte = 0; byte < 256; byte += 1) {
    if (!vocab.has(alphabetCharacter(byte))) {
      throw invalidModelFile({
        file: FILE,
        where: 'the ranks',
        expected: 'all single bytes',
        found: `no byte ${byte}`,
      });
    }
  }
  return {
    type: 'BPE',
    vocab,
    merges: mergesOfPieces(vocab, (id) => id),
    unk_token: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: true,
    continuing_subword_prefix: '',
    end_of_word_suffix: '',
    userDefined: [],
    unused: new Set(),
  };
}

function fault(line: number, expected: string, found: string) {
  return invalidModelFile({ file: FILE, where: `line ${line + 1}`, expected, found });
}
