import { AutoglmError } from '../errors';
import type { TokenTable } from '../tokenizer/token-table';
import type { LoadedText } from './text/types';

type Vocabulary = Pick<LoadedText, 'tokenTable' | 'hasLanguageHead'>;

/**
 * Throws `invalid_parameter` unless the two models speak of the same tokens: each id that both know stands for the same
 * bytes. Heads padded to different sizes and control tokens that only one of them knows do no harm.
 */
export function checkDraftVocabulary(target: Vocabulary, draft: Vocabulary): void {
  const wordless = [target, draft].find(({ hasLanguageHead }) => !hasLanguageHead);
  if (wordless !== undefined) {
    const which = wordless === target ? 'the model' : 'the draft model';
    throw unfit(
      `expected speculation.draftModel to guess what the model says next, but ${which} generates nothing`,
    );
  }
  const id = firstDifference(target.tokenTable, draft.tokenTable);
  if (id === null) return;
  const found = spelled(draft.tokenTable, id);
  const allowed = spelled(target.tokenTable, id);
  throw unfit(
    `expected speculation.draftModel to have the model's vocabulary, but token ${id} is ${found} in it and ${allowed} in the model`,
    { token: id, found, allowed },
  );
}

function unfit(message: string, details: Readonly<Record<string, unknown>> = {}): AutoglmError {
  return new AutoglmError('invalid_parameter', message, {
    hint: 'Use a smaller model of the same family, or speculation without a draft model.',
    details: { path: 'speculation.draftModel', ...details },
  });
}

/** The lowest id that means something else to the other model, or null. */
function firstDifference(target: TokenTable, draft: TokenTable): number | null {
  const numShared = Math.min(target.isSpecial.length, draft.isSpecial.length);
  const numTokens = Math.max(target.isSpecial.length, draft.isSpecial.length);
  // Vocabularies are long and mostly equal: they are compared as a whole first.
  for (let id = isEqualUntil(target, draft, numShared) ? numShared : 0; id < numTokens; id += 1) {
    const ours = bytesOf(target, id);
    const theirs = bytesOf(draft, id);
    const knower = ours.length === 0 ? draft : target;
    const isKnownToBoth = ours.length > 0 && theirs.length > 0;
    if (isEqual(ours, theirs) || (!isKnownToBoth && knower.isSpecial[id] === 1)) continue;
    return id;
  }
  return null;
}

function isEqualUntil(a: TokenTable, b: TokenTable, end: number): boolean {
  if (!isEqual(a.offsets.subarray(0, end + 1), b.offsets.subarray(0, end + 1))) return false;
  return isEqual(a.bytes.subarray(0, a.offsets[end]), b.bytes.subarray(0, b.offsets[end]));
}

const isEqual = (a: Uint8Array | Uint32Array, b: Uint8Array | Uint32Array): boolean =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

const bytesOf = ({ bytes, offsets }: TokenTable, id: number): Uint8Array =>
  bytes.subarray(offsets[id] ?? 0, offsets[id + 1] ?? 0);

const spelled = (table: TokenTable, id: number): string => {
  const bytes = bytesOf(table, id);
  return bytes.length === 0 ? 'unknown' : JSON.stringify(Buffer.from(bytes).toString());
};
