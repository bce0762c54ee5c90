import type { NativeAdapterPart } from '../../native/addon';
import type { DecoderSpec, WeightSource } from '../../native/decoder-spec';
import type { StoredTensor } from '../checkpoint-types';
import { invalidModelFile, quoted, unsupportedModel } from '../model-file-error';
import { MAX_RANK } from './adapter-description';
import { placeTarget, type TargetPlace } from './adapter-targets';

/** The two matrices of one module. */
export interface LowRankPair {
  readonly module: string;
  readonly a: StoredTensor;
  readonly b: StoredTensor;
}

/** What the pairs of one file have in common. */
export interface PairContext {
  readonly file: string;
  readonly spec: DecoderSpec;
  /** Of one module, by its rank. */
  readonly scaleOf: (module: string, rank: number) => number;
  /** Row r of B is stored row `rowOrderOf(place)[r]`; null for the model's own order. */
  readonly rowOrderOf: (place: TargetPlace) => Int32Array | null;
}

const FLOATS = ['f32', 'f16', 'bf16', 'f64'] as const;
const OTHER_BASE = 'The adapter was made for another base model.';

/** Joins A and B by module, in the file's order. Throws when one of them is missing. */
export function pairTensors(
  file: string,
  tensors: Iterable<{ readonly module: string; readonly half: 'a' | 'b'; readonly tensor: StoredTensor }>,
): readonly LowRankPair[] {
  const halves = new Map<string, { a?: StoredTensor; b?: StoredTensor }>();
  for (const { module, half, tensor } of tensors) {
    const pair = halves.get(module) ?? {};
    if (pair[half] !== undefined) {
      const found = `${quoted(pair[half].name)} and ${quoted(tensor.name)}`;
      throw invalidModelFile({ file, where: quoted(module), expected: 'one adapter', found });
    }
    pair[half] = tensor;
    halves.set(module, pair);
  }
  const pairs: LowRankPair[] = [];
  for (const [module, { a, b }] of halves) {
    if (a === undefined || b === undefined) {
      const found = `only ${quoted((a ?? b)?.name ?? '')}`;
      throw invalidModelFile({ file, where: quoted(module), expected: 'both matrices', found });
    }
    pairs.push({ module, a, b });
  }
  if (pairs.length > 0) return pairs;
  throw invalidModelFile({ file, where: 'tensors', expected: 'low-rank matrices', found: 'none' });
}

/** Places each pair in the decoder and checks its shapes against the model's. */
export function describePairs(
  pairs: readonly LowRankPair[],
  context: PairContext,
): { readonly parts: readonly NativeAdapterPart[]; readonly rank: number } {
  const parts = pairs.map((pair) => describePair(pair, context));
  const rank = parts.reduce((most, { a }) => Math.max(most, a.shape[0] ?? 0), 0);
  return { parts, rank };
}

function describePair({ module, a, b }: LowRankPair, context: PairContext): NativeAdapterPart {
  const { file, spec } = context;
  const rank = a.shape[0] ?? 0;
  const place = placeTarget(spec, file, module, b.shape[0] ?? 0);
  if (!('product' in place)) {
    const expected = `layers 0..${spec.layers.length - 1}, as the model has`;
    const found = `layer ${place.layer}`;
    throw invalidModelFile({ file, where: quoted(module), expected, found, hint: OTHER_BASE });
  }
  checkShape(file, a, [rank, place.numColumns]);
  checkShape(file, b, [place.numRows, rank]);
  if (rank > MAX_RANK) {
    throw unsupportedModel(file, `rank ${rank} of ${quoted(module)}`, [`ranks 1..${MAX_RANK}`]);
  }
  const { layer, product, firstColumn } = place;
  return {
    layer,
    product,
    firstColumn,
    scale: context.scaleOf(module, rank),
    a: sourceOf(file, a, null),
    b: sourceOf(file, b, context.rowOrderOf(place)),
  };
}

function checkShape(file: string, { name, shape }: StoredTensor, expected: readonly [number, number]): void {
  if (shape.length === 2 && shape[0] === expected[0] && shape[1] === expected[1] && expected[0] > 0) return;
  throw invalidModelFile({
    file,
    where: `tensor ${quoted(name)}`,
    expected: `shape [${expected.join(', ')}], as the model asks for`,
    found: `shape [${shape.join(', ')}]`,
    hint: OTHER_BASE,
  });
}

function sourceOf(file: string, tensor: StoredTensor, rowOrder: Int32Array | null): WeightSource {
  const format = FLOATS.find((name) => name === tensor.format);
  if (format === undefined) {
    const types = FLOATS.map((name) => name.toUpperCase());
    throw unsupportedModel(file, `tensor ${quoted(tensor.name)} of type ${tensor.typeName}`, types);
  }
  return {
    format,
    shape: tensor.shape,
    slices: [{ file: tensor.file, offset: tensor.offset, byteLength: tensor.byteLength }],
    rowOrder,
    isTransposed: false,
  };
}
