import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MAX_CHUNK_PERCENT, MIN_CHUNK_PERCENT, SIZE_BOUNDS, type TuningChoice } from './step-cut';

/** What choices hold for. */
export interface TuningKey {
  /** The processor, as it calls itself. */
  readonly cpu: string;
  readonly isa: string;
  readonly threads: number;
  /** Of the shapes and formats of the model's products and of its KV cache. */
  readonly shapes: string;
}

interface StoredTuning {
  readonly choices: readonly TuningChoice[];
  readonly warnings: readonly string[];
}

/** Of the file's fields. */
const FORMAT = 1;
/** A file of ours has less than 2 KiB. */
const MAX_FILE_BYTES = 64 * 1024;

const NOTHING: StoredTuning = { choices: [], warnings: [] };

/**
 * One model's choices in a file of their own, named by what they hold for. A file that is damaged, or that belongs to
 * another version of the package, is as good as none: it is replaced by the next choice. Nothing here ever fails a model.
 */
export class TuningStore {
  readonly path: string;
  readonly #key: TuningKey;
  readonly #version: string;
  #writing: Promise<void> = Promise.resolve();
  #failure: string | null = null;

  /** `version` is the package's: other kernels, other choices. */
  constructor(folder: string, key: TuningKey, version: string) {
    this.#key = key;
    this.#version = version;
    const { cpu, isa, threads, shapes } = key;
    const name = createHash('sha256')
      .update(JSON.stringify([cpu, isa, threads, shapes]))
      .digest('hex');
    this.path = join(folder, `${name.slice(0, 32)}.json`);
  }

  /** Why the last choices could not be written; null when they were. */
  get failure(): string | null {
    return this.#failure;
  }

  async read(): Promise<StoredTuning> {
    let text: string;
    try {
      text = await readSmallFile(this.path);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      return code === 'ENOENT' ? NOTHING : this.#ignored(message);
    }
    try {
      return { choices: this.#parse(text), warnings: [] };
    } catch (error) {
      return this.#ignored((error as Error).message);
    }
  }

  /** Replaces the file behind whatever is being written, keeping what others have added to it meanwhile. */
  write(choices: readonly TuningChoice[]): void {
    this.#writing = this.#writing
      .then(() => this.#replace(choices))
      .then(
        () => {
          this.#failure = null;
        },
        (error: unknown) => {
          this.#failure = (error as Error).message;
        },
      );
  }

  /** Settles when nothing is being written any more. */
  close(): Promise<void> {
    return this.#writing;
  }

  async #replace(choices: readonly TuningChoice[]): Promise<void> {
    const merged = new Map<number, TuningChoice>();
    for (const choice of [...(await this.read()).choices, ...choices])
      merged.set(choice.maxPositions, choice);
    const content = { format: FORMAT, version: this.#version, ...this.#key, choices: [...merged.values()] };
    await mkdir(dirname(this.path), { recursive: true });
    const temporary = `${this.path}.${randomUUID()}.tmp`;
    try {
      await writeFile(temporary, `${JSON.stringify(content)}\n`);
      await rename(temporary, this.path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  #ignored(why: string): StoredTuning {
    return { choices: [], warnings: [`${this.path}: these tuning results are ignored: ${why}`] };
  }

  /** No choices for another version's file; throws for what none of ours holds. */
  #parse(text: string): TuningChoice[] {
    const content = fieldsOf(JSON.parse(text), 'the file');
    const { format, version, choices, ...key } = content;
    if (typeof format !== 'number' || typeof version !== 'string')
      throw unexpected('format or version', format);
    if (format !== FORMAT || version !== this.#version) return [];
    for (const [name, expected] of Object.entries(this.#key)) {
      if (key[name] !== expected) throw unexpected(name, key[name], JSON.stringify(expected));
    }
    if (!Array.isArray(choices) || choices.length > SIZE_BOUNDS.length) throw unexpected('choices', choices);
    return choices.map((choice) => this.#parseChoice(fieldsOf(choice, 'a choice')));
  }

  #parseChoice({ maxPositions, numThreads, chunkPercent }: Readonly<Record<string, unknown>>): TuningChoice {
    return {
      maxPositions: wholeNumber('maxPositions', maxPositions, (value) => SIZE_BOUNDS.includes(value)),
      numThreads: wholeNumber('numThreads', numThreads, (value) => value >= 1 && value <= this.#key.threads),
      chunkPercent: wholeNumber(
        'chunkPercent',
        chunkPercent,
        (value) => value >= MIN_CHUNK_PERCENT && value <= MAX_CHUNK_PERCENT,
      ),
    };
  }
}

async function readSmallFile(path: string): Promise<string> {
  const file = await open(path);
  try {
    const bytes = Buffer.alloc(MAX_FILE_BYTES);
    const { bytesRead } = await file.read(bytes, 0, MAX_FILE_BYTES, 0);
    return bytes.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

function fieldsOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw unexpected(what, value, 'an object');
  return value as Readonly<Record<string, unknown>>;
}

function wholeNumber(name: string, value: unknown, isAllowed: (value: number) => boolean): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || !isAllowed(value))
    throw unexpected(name, value);
  return value;
}

function unexpected(name: string, found: unknown, expected = 'another value'): Error {
  return new Error(`${name} is ${String(JSON.stringify(found)).slice(0, 60)}, expected ${expected}`);
}
