import { type ComputeLayout, STORED_FORMATS } from '../native/abi';
import type { NativeTensor } from '../native/addon';
import type { AttentionSpec, DecoderSpec, MlpSpec, MoeSpec } from '../native/decoder-spec';

/** Rows that products with the head are computed for at once: Decoder::kMaxLogitRows. */
const MAX_LOGIT_ROWS = 32;
/** Per token of the vocabulary, what drawing takes on each thread: a weight and a candidate. */
const SAMPLER_BYTES = 4 + 8;
/** An int8 value, and its share of the 16 bytes that a group of 32 has: its scale and sums. */
const INT8_BYTES = 1 + 16 / 32;
const FLOAT_BYTES = 4;

export interface StepSize {
  /** Positions of one step. */
  readonly maxStepTokens: number;
  readonly threads: number;
}

/**
 * Working memory of a step, as native/model/decoder.cpp, experts.cpp and native/runtime/model.cpp reserve it: each
 * buffer once, as wide as the widest layer needs.
 */
export function estimateScratch(
  spec: DecoderSpec,
  tensors: readonly NativeTensor[],
  precision: 'fast' | 'exact',
  { maxStepTokens, threads }: StepSize,
): number {
  const { vocabSize, hiddenSize, layers, ropeTables } = spec;
  const readers = new InputWidths(tensors, precision);
  const perPosition: Record<string, number> = {};
  const widen = (buffer: string, bytes: number): void => {
    perPosition[buffer] = Math.max(perPosition[buffer] ?? 0, bytes);
  };
  for (const [i, { attention, mlp, normPlacement }] of layers.entries()) {
    const role = (name: string): string => `layers.${i}.${name}`;
    widen('rotated q', FLOAT_BYTES * attention.numQHeads * attention.headDim);
    for (const [buffer, bytes] of attentionBuffers(attention, (name) =>
      readers.bytesPerValue([role(name)]),
    )) {
      widen(buffer, bytes);
    }
    const inputs = [...ATTENTION_INPUTS, ...mlpInputs(mlp)].map(role);
    widen('input', hiddenSize * readers.bytesPerValue(inputs));
    if (normPlacement !== 'pre') widen('sub-layer', FLOAT_BYTES * hiddenSize);
    widen('attention', 2 * attentionPartials(attention));
    for (const [buffer, bytes] of mlpBuffers(mlp, hiddenSize, (name) =>
      readers.bytesPerValue([role(name)]),
    )) {
      widen(buffer, bytes);
    }
  }
  const angles = ropeTables.reduce((sum, { rotaryDim }) => sum + FLOAT_BYTES * rotaryDim, 0);
  const residuals = 2 * FLOAT_BYTES * hiddenSize;
  const sum = Object.values(perPosition).reduce((all, bytes) => all + bytes, residuals + angles);
  const head = spec.head?.isTied === true ? 'embedding' : 'head';
  const headInput = hiddenSize * (FLOAT_BYTES + (readers.takesInt8(head) ? INT8_BYTES : 0));
  const logits = spec.head === null ? 0 : FLOAT_BYTES * vocabSize;
  return maxStepTokens * sum + MAX_LOGIT_ROWS * (headInput + logits) + threads * SAMPLER_BYTES * vocabSize;
}

/** Running sums of a query head's values, its maximum and its total: cpu::attention_partial_floats, twice per row. */
function attentionPartials({ numQHeads, valueDim }: AttentionSpec): number {
  return 2 * numQHeads * FLOAT_BYTES * (Math.ceil(valueDim / 16) * 16 + 16);
}

const ATTENTION_INPUTS = ['q', 'k', 'v', 'q_a', 'kv_a'].map((name) => `attention.${name}`);

function attentionBuffers(
  { numQHeads, numKvHeads, headDim, valueDim, latent }: AttentionSpec,
  bytesPerValue: (role: string) => number,
): readonly (readonly [buffer: string, bytes: number])[] {
  const output = bytesPerValue('attention.o');
  if (latent === null) {
    return [
      ['qkv', FLOAT_BYTES * (numQHeads * headDim + numKvHeads * (headDim + valueDim))],
      ['attended', numQHeads * valueDim * output],
    ];
  }
  const { queryRank, nopeDim, ropeDim, outputDim } = latent;
  const numQueries = numQHeads * (nopeDim + ropeDim);
  const int8Queries = bytesPerValue('attention.k_b.0') === INT8_BYTES ? INT8_BYTES * numQueries : 0;
  // Outputs of the heads are kept as floats whatever else reads them.
  const int8Outputs = output === INT8_BYTES ? INT8_BYTES : 0;
  return [
    ['down', FLOAT_BYTES * ((queryRank ?? numQueries) + headDim)],
    ['query latent', queryRank === null ? 0 : queryRank * bytesPerValue('attention.q_b')],
    ['query heads', (queryRank === null ? 0 : FLOAT_BYTES * numQueries) + int8Queries],
    ['latent q', FLOAT_BYTES * numQHeads * headDim],
    ['attended latents', numQHeads * valueDim * bytesPerValue('attention.v_b.0')],
    ['expanded', numQHeads * outputDim * (FLOAT_BYTES + int8Outputs)],
  ];
}

function mlpInputs(mlp: MlpSpec | MoeSpec): readonly string[] {
  if (mlp.kind === 'dense') return mlp.isGated ? ['mlp.gate', 'mlp.up'] : ['mlp.up'];
  return ['mlp.router', 'mlp.shared.up'];
}

function mlpBuffers(
  mlp: MlpSpec | MoeSpec,
  hiddenSize: number,
  bytesPerValue: (role: string) => number,
): readonly (readonly [buffer: string, bytes: number])[] {
  if (mlp.kind === 'dense') {
    const width = mlp.intermediateSize;
    return [
      ['gate and up', FLOAT_BYTES * width * (mlp.isGated ? 2 : 1)],
      ['activated', width * bytesPerValue('mlp.down')],
    ];
  }
  const { numExperts, numExpertsPerToken, intermediateSize, sharedIntermediateSize: shared } = mlp;
  const activated = (width: number, role: string): number =>
    width * (2 * FLOAT_BYTES + bytesPerValue(role)) + FLOAT_BYTES * hiddenSize;
  const gathered = hiddenSize * bytesPerValue('mlp.experts.0.up');
  const pair = gathered + activated(intermediateSize, 'mlp.experts.0.down');
  return [
    ['router', FLOAT_BYTES * (numExperts + numExpertsPerToken)],
    ['experts', numExpertsPerToken * pair],
    ['shared expert', shared === 0 ? 0 : activated(shared, 'mlp.shared.down')],
  ];
}

const FLOAT_LAYOUTS: ReadonlySet<ComputeLayout> = new Set(['f32', 'f16', 'bf16']);

/** In which forms the inputs of products are kept: the packed weights demand int8 or floats. */
class InputWidths {
  readonly #takesInt8 = new Map<string, boolean>();

  constructor(tensors: readonly NativeTensor[], precision: 'fast' | 'exact') {
    for (const { role, source } of tensors) {
      const isFloat = FLOAT_LAYOUTS.has(STORED_FORMATS[source.format].computeLayout);
      this.#takesInt8.set(role, !isFloat && precision === 'fast');
    }
  }

  takesInt8(role: string): boolean {
    return this.#takesInt8.get(role) === true;
  }

  /** Of a buffer that the products with all of `roles` read. */
  bytesPerValue(roles: readonly string[]): number {
    const kinds = new Set(roles.map((role) => this.#takesInt8.get(role)));
    return (kinds.has(true) ? INT8_BYTES : 0) + (kinds.has(false) ? FLOAT_BYTES : 0);
  }
}
