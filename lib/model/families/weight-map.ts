import type { AutoglmError } from '../../errors';
import { STORED_FORMATS, type StoredFormat } from '../../native/abi';
import type { NativeTensor } from '../../native/addon';
import type { Checkpoint, StoredTensor } from '../checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import { type QuantizationMethod, type QuantizedWeight, readQuantization } from '../quantization/method';
import { ModuleTensors, type StackPlace } from '../quantization/module-tensors';

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
  readonly stack?: StackPlace;
}

const VECTOR_FORMATS: readonly StoredFormat[] = ['f32', 'f16', 'bf16', 'f64'];

/** Formats that need no other tensor. */
const BLOCK_FORMATS = (Object.keys(STORED_FORMATS) as StoredFormat[]).filter(
  (format) => !STORED_FORMATS[format].hasComponents,
);

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
  readonly #method: QuantizationMethod | null;
  /** Elements of quantized matrices, by their codes; the parts themselves are not counted. */
  readonly #quantizedElements = new Map<StoredTensor, number>();
  readonly #uncounted = new Set<StoredTensor>();

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint;
    const { config } = checkpoint;
    this.#method = config.kind === 'huggingface' ? readQuantization(config.values) : null;
  }

  /** Whether there is a tensor of this name, or the codes of a quantized one. */
  has(name: string): boolean {
    const { tensors } = this.#checkpoint;
    if (tensors.has(name)) return true;
    if (this.#method === null || !name.endsWith('.weight')) return false;
    const module = name.slice(0, -'.weight'.length);
    return tensors.has(`${module}.qweight`) || tensors.has(`${module}.weight_packed`);
  }

  /** [out, in], or some rows of a larger tensor. */
  matrix(
    role: string,
    name: string,
    [out, columns]: readonly [number, number],
    placement: Placement = {},
  ): void {
    const { rows = { first: 0, total: out }, rowOrder = null, isTransposed = false, stack } = placement;
    const quantized = this.#quantizedWeight(name, [rows.total, columns], stack);
    if (quantized !== null) {
      this.#addQuantized(role, quantized, [out, columns], rows, rowOrder);
      return;
    }
    if (!isTransposed) {
      const layers = stack === undefined ? [] : [stack.count];
      const tensor = this.#require(name, [...layers, rows.total, columns]);
      if (tensor === null) return;
      const format = this.#formatOf(tensor, BLOCK_FORMATS);
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

  /** [out, in]: the transpose of some rows of a tensor [rows.total, out]. */
  transposed(role: string, name: string, [out, columns]: readonly [number, number], rows: RowRange): void {
    const tensor = this.#require(name, [rows.total, out]);
    if (tensor === null) return;
    const format = this.#formatOf(tensor, VECTOR_FORMATS);
    const rowBytes = out * STORED_FORMATS[format].bytesPerBlock;
    const offset = tensor.offset + rows.first * rowBytes;
    const slices = [{ file: tensor.file, offset, byteLength: columns * rowBytes }];
    const source = { format, shape: [out, columns], slices, rowOrder: null, isTransposed: true };
    this.#tensors.push({ role, source });
  }

  /** A matrix of one row, which may be stored as a vector. */
  row(role: string, name: string, columns: number): void {
    const isVector = this.#checkpoint.tensors.get(name)?.shape.length === 1;
    const tensor = this.#require(name, isVector ? [columns] : [1, columns]);
    if (tensor === null) return;
    const format = this.#formatOf(tensor, BLOCK_FORMATS);
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
    for (const tensor of this.#used) {
      if (this.#uncounted.has(tensor)) continue;
      sum += this.#quantizedElements.get(tensor) ?? tensor.shape.reduce((product, dim) => product * dim, 1);
    }
    return sum;
  }

  #quantizedWeight(
    name: string,
    shape: readonly [number, number],
    stack: StackPlace | undefined,
  ): QuantizedWeight | null {
    if (this.#method === null) return null;
    const isModule = name.endsWith('.weight');
    if (isModule !== (stack === undefined)) return null;
    const module = isModule ? name.slice(0, -'.weight'.length) : name;
    const tensors = new ModuleTensors(this.#checkpoint, module, stack ?? null);
    const weight = this.#method.find(tensors, shape);
    if (weight === null) return null;
    for (const [part, whole] of tensors.used) {
      this.#used.add(whole);
      if (part === weight.codes)
        this.#quantizedElements.set(whole, shape[0] * shape[1] * (stack?.count ?? 1));
      else this.#uncounted.add(whole);
    }
    return weight;
  }

  #addQuantized(
    role: string,
    { format, codes, quantization }: QuantizedWeight,
    shape: readonly number[],
    rows: RowRange,
    rowOrder: Int32Array | null,
  ): void {
    const slices = [{ file: codes.file, offset: codes.offset, byteLength: codes.byteLength }];
    const source = { format, shape, slices, rowOrder, isTransposed: false };
    this.#tensors.push({
      role,
      source: { ...source, quantization: { ...quantization, firstRow: rows.first } },
    });
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
    const { path, tensors } = this.#checkpoint;
    const [[name, shape], ...more] = [...this.#missing] as [[string, string], ...[string, string][]];
    const isOne = more.length === 0;
    const hasCodes = [...tensors.keys()].some((key) => /\.(qweight|weight_packed)$/.test(key));
    return invalidModelFile({
      file: path,
      where: isOne ? `tensor ${quoted(name)}` : 'tensors',
      expected: isOne
        ? `${shape}, as the config asks for`
        : `${this.#missing.size} tensors that the config asks for`,
      found: isOne ? 'no such tensor' : `none of ${firstNames([...this.#missing.keys()])}`,
      ...(hasCodes && this.#method === null
        ? { hint: 'The matrices are quantized, but config.json has no quantization_config that says how.' }
        : {}),
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
