import { AutoglmError } from '../errors';

export interface ModelFileFault {
  readonly file: string;
  /** What is wrong in the file: a key, a tensor, a byte offset. */
  readonly where: string;
  readonly expected: string;
  readonly found: string;
  readonly hint?: string;
  /** Byte offset of the fault, when known. */
  readonly offset?: number;
  readonly cause?: unknown;
}

/** The file breaks a rule of its format, or contradicts itself. */
export function invalidModelFile(fault: ModelFileFault): AutoglmError {
  const { file, where, expected, found, hint, offset, cause } = fault;
  const place = offset === undefined ? where : `${where} (byte ${offset})`;
  return new AutoglmError('invalid_model_file', `${file}: ${place}: expected ${expected}, found ${found}`, {
    details: { file, where, expected, found, ...(offset === undefined ? {} : { offset }) },
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The file is sound, but holds something this version cannot run. */
export function unsupportedModel(
  file: string,
  what: string,
  supported: readonly string[],
  hint?: string,
): AutoglmError {
  return new AutoglmError(
    'unsupported_model',
    `${file}: ${what} is not supported (supported: ${supported.join(', ')})`,
    { details: { file, what, supported }, ...(hint === undefined ? {} : { hint }) },
  );
}

const MAX_QUOTED = 80;

/** Text from a file, escaped and cut so that it can stand in a message. */
export function quoted(text: string): string {
  const cut = text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}...` : text;
  return JSON.stringify(cut);
}
