import type { AutoglmError } from '../../errors';
import type { ComponentDtype } from '../../native/abi';
import type { Component } from '../../native/decoder-spec';
import type { Checkpoint, StoredTensor } from '../checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';

const DTYPES: ReadonlyMap<string, ComponentDtype> = new Map([
  ['F32', 'f32'],
  ['F16', 'f16'],
  ['BF16', 'bf16'],
  ['F8_E8M0', 'f8_e8m0'],
  ['I32', 'i32'],
  ['I8', 'i8'],
]);
export const SCALE_TYPES: readonly string[] = ['F32', 'F16', 'BF16', 'F8_E8M0'];

/** One matrix of a stack of `count`. */
export interface StackPlace {
  readonly index: number;
  readonly count: number;
}

/**
 * The tensors that make one quantized matrix. Remembers which were asked for.
 * Those of a module are `<module>.weight`, `<module>.weight_scale`, ...; those of a stack are a parameter `<name>` and
 * its companions `<name>_scale`, ..., each with the stack as its first dimension, and are seen here one place at a time.
 */
export class ModuleTensors {
  readonly #checkpoint: Checkpoint;
  readonly #name: string;
  readonly #stack: StackPlace | null;
  /** By the tensor as it was given out: the whole tensor. */
  readonly used = new Map<StoredTensor, StoredTensor>();

  /** `name` is the module's or the stack's. */
  constructor(checkpoint: Checkpoint, name: string, stack: StackPlace | null) {
    this.#checkpoint = checkpoint;
    this.#name = name;
    this.#stack = stack;
  }

  /** Null when there is no such tensor. */
  get(suffix: string): StoredTensor | null {
    const whole = this.#checkpoint.tensors.get(this.#nameOf(suffix));
    if (whole === undefined) return null;
    const tensor = this.#stack === null ? whole : this.#atPlace(whole, this.#stack);
    this.used.set(tensor, whole);
    return tensor;
  }

  require(suffix: string): StoredTensor {
    const tensor = this.get(suffix);
    if (tensor !== null) return tensor;
    throw invalidModelFile({
      file: this.#checkpoint.path,
      where: `tensor ${quoted(this.#nameOf(suffix))}`,
      expected: 'it beside the other parts of its quantized matrix',
      found: 'no such tensor',
    });
  }

  /** The tensor as a part of a matrix; it must have one of `types` and, up to dims of 1, this shape. */
  component(tensor: StoredTensor, types: readonly string[], shape: readonly [number, number]): Component {
    this.requireType(tensor, types);
    this.requireShape(tensor, shape);
    const dtype = DTYPES.get(tensor.typeName) ?? 'f32';
    return { file: tensor.file, offset: tensor.offset, byteLength: tensor.byteLength, dtype, shape };
  }

  requireType(tensor: StoredTensor, types: readonly string[]): void {
    if (types.includes(tensor.typeName)) return;
    throw unsupportedModel(
      this.#fileOf(tensor),
      `tensor ${quoted(tensor.name)} of type ${tensor.typeName}`,
      types,
    );
  }

  requireShape(tensor: StoredTensor, shape: readonly [number, number]): void {
    const significant = (dims: readonly number[]): string => dims.filter((dim) => dim !== 1).join(', ');
    if (significant(tensor.shape) === significant(shape)) return;
    throw this.fault(
      tensor,
      `shape [${shape.join(', ')}], as the config and the other parts ask for`,
      `shape [${tensor.shape.join(', ')}]`,
    );
  }

  fault(tensor: StoredTensor, expected: string, found: string): AutoglmError {
    return invalidModelFile({
      file: this.#fileOf(tensor),
      where: `tensor ${quoted(tensor.name)}`,
      expected,
      found,
    });
  }

  unsupported(tensor: StoredTensor, what: string, supported: readonly string[]): AutoglmError {
    return unsupportedModel(this.#fileOf(tensor), `tensor ${quoted(tensor.name)}: ${what}`, supported);
  }

  #nameOf(suffix: string): string {
    if (this.#stack === null) return `${this.#name}.${suffix}`;
    return suffix === 'weight' ? this.#name : `${this.#name}_${suffix.replace(/^weight_/, '')}`;
  }

  #atPlace(whole: StoredTensor, { index, count }: StackPlace): StoredTensor {
    const [depth, ...shape] = whole.shape;
    if (depth !== count) {
      throw this.fault(
        whole,
        `a stack of ${count}, as the config asks for`,
        `shape [${whole.shape.join(', ')}]`,
      );
    }
    const byteLength = whole.byteLength / count;
    return { ...whole, shape, offset: whole.offset + index * byteLength, byteLength };
  }

  #fileOf(tensor: StoredTensor): string {
    return this.#checkpoint.files[tensor.file]?.path ?? this.#checkpoint.path;
  }
}
