import type { AutoglmError } from '../errors';
import type { ConfigReader } from './config-reader';

/** The settings under one key of another config, e.g. `text_config` of a model that also sees images. */
export class ConfigSection implements ConfigReader {
  readonly #whole: ConfigReader;
  readonly #prefix: string;

  constructor(whole: ConfigReader, key: string) {
    this.#whole = whole;
    this.#prefix = `${key}.`;
  }

  get file(): string {
    return this.#whole.file;
  }

  has(key: string): boolean {
    return this.#whole.has(this.#prefix + key);
  }

  isStated(key: string): boolean {
    return this.#whole.isStated(this.#prefix + key);
  }

  isList(key: string): boolean {
    return this.#whole.isList(this.#prefix + key);
  }

  integer(key: string, min: number, max: number): number | null {
    return this.#whole.integer(this.#prefix + key, min, max);
  }

  number(key: string): number | null {
    return this.#whole.number(this.#prefix + key);
  }

  boolean(key: string): boolean | null {
    return this.#whole.boolean(this.#prefix + key);
  }

  string(key: string): string | null {
    return this.#whole.string(this.#prefix + key);
  }

  numbers(key: string): readonly number[] | null {
    return this.#whole.numbers(this.#prefix + key);
  }

  strings(key: string): readonly string[] | null {
    return this.#whole.strings(this.#prefix + key);
  }

  fault(key: string, expected: string, found: string): AutoglmError {
    return this.#whole.fault(this.#prefix + key, expected, found);
  }
}
