import { AutoglmError } from '../errors';
import { NATIVE_ERROR_CODES } from './abi';

type NativeErrorCode = (typeof NATIVE_ERROR_CODES)[number];

const isNativeCode = (code: unknown): code is NativeErrorCode =>
  (NATIVE_ERROR_CODES as readonly unknown[]).includes(code);

/** The addon throws plain errors that carry a `code` of native/base/error_codes.def; this gives them their class. */
export function fromNativeError(error: unknown): AutoglmError {
  if (AutoglmError.is(error)) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return new AutoglmError(isNativeCode(code) ? code : 'internal', message, { cause: error });
}

/** The code behind ResultHeader.errorCode: 0 is success, n is the n-th code of the list counted from 1. */
export function nativeErrorCode(errorCode: number): NativeErrorCode {
  return NATIVE_ERROR_CODES[errorCode - 1] ?? 'internal';
}
