import type { AutoglmError } from '../errors';

/**
 * Typed access to a checkpoint's settings: config.json or GGUF keys. A value of another type or outside its range is
 * `invalid_model_file` naming the key; an absent one is null.
 */
export interface ConfigReader {
  /** The file the settings come from, for messages. */
  readonly file: string;
  has(key: string): boolean;
  /** The key stands in the file, be it as null: some configs say "none" that way, where the default is a number. */
  isStated(key: string): boolean;
  isList(key: string): boolean;
  /** A whole number in min..max. */
  integer(key: string, min: number, max: number): number | null;
  /** A finite number. */
  number(key: string): number | null;
  boolean(key: string): boolean | null;
  string(key: string): string | null;
  /** Finite numbers. */
  numbers(key: string): readonly number[] | null;
  strings(key: string): readonly string[] | null;
  /** An error at `key`, for rules that involve more than one value. */
  fault(key: string, expected: string, found: string): AutoglmError;
}

/** As `reader.integer`, but the key must be there. */
export function requireInteger(reader: ConfigReader, key: string, min: number, max: number): number {
  const value = reader.integer(key, min, max);
  if (value === null) throw reader.fault(key, `a whole number in ${min}..${max}`, 'nothing');
  return value;
}
