import type { AutoglmError } from '../../errors';
import { STORED_FORMATS, type StoredFormat } from '../../native/abi';
import type { NativeTensor } from '../../native/addon';
import type { Checkpoint, StoredTensor } from '../checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';

/** A role's rows inside a tensor that holds several roles (fused q/k/v, gate and up). */
export interface RowRange {
  readonly first: number;
  /** Rows of the whole stored tensor. */
  readonly total: number;
}

/** Where a role is found in its tensor; left out, it is the whole tensor in the model's own order. */
export interface Placement {
  readonly rows?: RowRange | undefined;
  /** Row r of the role is row `rowOrder[r]` of its part of the tensor. */
  readonly rowOrder?: Int32Array | undefined;
  /** Stored as [in, out]. */
  readonly isTransposed?: boolean;
  /** The tensor is a stack of `count` matrices, of which this is the one at `index`. */
  readonly stack?: { readonly index: number; readonly count: number };
}

const VECTOR_FORMATS: readonly StoredFormat[] = ['f32', 'f16', 'bf16', 'f64'];

/**
 * Maps the roles of the decoder to the tensors of a checkpoint. Each use checks presence, shape and type against what
 * the config asks for; in the end it knows which tensors nobody used.
 */
export class WeightMap {
  readonly #checkpoint: Checkpoint;
  readonly #tensors: NativeTensor[] = [];
  readonly #used = new Set<StoredTensor>();
  /** Names, with the shapes that were asked for. */
  readonly #missing = new Map<string, string>();

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint;
  }

  has(name: string): boolean {
    return this.#checkpoint.tensors.has(name);
  }

  /** [out, in], or some rows of a larger tensor. */
  matrix(
    role: string,
    name: string,
    [out, columns]: readonly [number, number],
    placement: Placement = {},
  ): void {
    const { rows = { first: 0, total: out }, rowOrder = null, isTransposed = false, stack } = placement;
    if (!isTransposed) {
      const layers = stack === undefined ? [] : [stack.count];
      const tensor = this.#require(name, [...layers, rows.total, columns]);
      if (tensor === null) return;
      const format = this.#formatOf(tensor, Object.keys(STORED_FORMATS) as StoredFormat[]);
      const first = (stack?.index ?? 0) * rows.total + rows.first;
      this.#add(role, tensor, format, [out, columns], { ...rows, first }, rowOrder);
      return;
    }
    const tensor = this.#require(name, [columns, rows.total]);
    if (tensor === null) return;
    const format = this.#formatOf(tensor, VECTOR_FORMATS);
    const slices = [{ file: tensor.file, offset: tensor.offset, byteLength: tensor.byteLength }];
    const source = { format, shape: [out, columns], slices, rowOrder: columnsOf(rows, out), isTransposed };
    this.#tensors.push({ role, source });
  }

  /** A matrix of one row, which may be stored as a vector. */
  row(role: string, name: string, columns: number): void {
    const isVector = this.#checkpoint.tensors.get(name)?.shape.length === 1;
    const tensor = this.#require(name, isVector ? [columns] : [1, columns]);
    if (tensor === null) return;
    const format = this.#formatOf(tensor, Object.keys(STORED_FORMATS) as StoredFormat[]);
    this.#add(role, tensor, format, [1, columns], { first: 0, total: 1 }, null);
  }

  /** [length], or a part of a longer vector. */
  vector(role: string, name: string, length: number, placement: Placement = {}): void {
    const { rows = { first: 0, total: length }, rowOrder = null } = placement;
    const tensor = this.#require(name, [rows.total]);
    if (tensor === null) return;
    const format = this.#formatOf(tensor, VECTOR_FORMATS);
    this.#add(role, tensor, format, [length], rows, rowOrder);
  }

  /** Marks a tensor as needed for something other than a role. */
  use(name: string): void {
    const tensor = this.#checkpoint.tensors.get(name);
    if (tensor !== undefined) this.#used.add(tensor);
  }

  /** Every role with its source. Throws when tensors are missing, naming the first few. */
  get tensors(): readonly NativeTensor[] {
    if (this.#missing.size > 0) throw this.#missingFault();
    return this.#tensors;
  }

  /** Tensors that were asked for and are not there. */
  get numMissing(): number {
    return this.#missing.size;
  }

  get unusedNames(): readonly string[] {
    const unused: string[] = [];
    for (const [name, tensor] of this.#checkpoint.tensors) if (!this.#used.has(tensor)) unused.push(name);
    return unused;
  }

  /** Elements of all tensors in use, each counted once. */
  get numParameters(): number {
    let sum = 0;
    for (const { shape } of this.#used) sum += shape.reduce((product, dim) => product * dim, 1);
    return sum;
  }

  #add(
    role: string,
    tensor: StoredTensor,
    format: StoredFormat,
    shape: readonly number[],
    rows: RowRange,
    rowOrder: Int32Array | null,
  ): void {
    const { elementsPerBlock, bytesPerBlock } = STORED_FORMATS[format];
    const rowElements = shape[1] ?? 1;
    const rowBytes = (rowElements / elementsPerBlock) * bytesPerBlock;
    const numRows = shape[0] ?? 0;
    this.#tensors.push({
      role,
      source: {
        format,
        shape,
        slices: [
          {
            file: tensor.file,
            offset: tensor.offset + rows.first * rowBytes,
            byteLength: numRows * rowBytes,
          },
        ],
        rowOrder,
        isTransposed: false,
      },
    });
  }

  /** Null when there is no such tensor: what else is missing is told together with it. */
  #require(name: string, shape: readonly number[]): StoredTensor | null {
    const tensor = this.#checkpoint.tensors.get(name);
    const expected = `shape [${shape.join(', ')}]`;
    if (tensor === undefined) {
      this.#missing.set(name, expected);
      return null;
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((dim, i) => dim !== shape[i])) {
      throw invalidModelFile({
        file: this.#fileOf(tensor),
        where: `tensor ${quoted(name)}`,
        expected: `${expected}, as the config asks for`,
        found: `shape [${tensor.shape.join(', ')}]`,
      });
    }
    this.#used.add(tensor);
    return tensor;
  }

  #missingFault(): AutoglmError {
    const file = this.#checkpoint.path;
    const [[name, shape], ...more] = [...this.#missing] as [[string, string], ...[string, string][]];
    if (more.length === 0) {
      const expected = `${shape}, as the config asks for`;
      return invalidModelFile({ file, where: `tensor ${quoted(name)}`, expected, found: 'no such tensor' });
    }
    const expected = `${this.#missing.size} tensors that the config asks for`;
    return invalidModelFile({
      file,
      where: 'tensors',
      expected,
      found: `none of ${firstNames([...this.#missing.keys()])}`,
    });
  }

  #formatOf(tensor: StoredTensor, supported: readonly StoredFormat[]): StoredFormat {
    const { format } = tensor;
    if (format !== null && supported.includes(format)) return format;
    throw unsupportedModel(
      this.#fileOf(tensor),
      `tensor ${quoted(tensor.name)} of type ${tensor.typeName}`,
      supported.map((name) => name.toUpperCase()),
      'Use a file converted to one of the supported types.',
    );
  }

  #fileOf(tensor: StoredTensor): string {
    return this.#checkpoint.files[tensor.file]?.path ?? this.#checkpoint.path;
  }
}

const MAX_NAMES_SHOWN = 5;

/** The first few names of a list, and how many more there are. */
export function firstNames(names: readonly string[]): string {
  const shown = names.slice(0, MAX_NAMES_SHOWN).join(', ');
  return names.length > MAX_NAMES_SHOWN ? `${shown}, and ${names.length - MAX_NAMES_SHOWN} more` : shown;
}

/** A role's part of a transposed tensor: its rows are columns of the file, so they are picked one by one. */
function columnsOf({ first, total }: RowRange, count: number): Int32Array | null {
  return count === total ? null : Int32Array.from({ length: count }, (_, i) => first + i);
}
