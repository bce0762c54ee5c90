import type {
  AttentionSpec,
  DecoderSpec,
  LatentSpec,
  LayerSpec,
  MlpSpec,
  MoeSpec,
  NormSpec,
  RopeTable,
} from '../../../lib/native/decoder-spec';

type Vector = readonly number[];
type Weights = ReadonlyMap<string, ArrayLike<number>>;

/**
 * Executes every setting of a DecoderSpec in float64 with plain loops, whether or not a family uses it yet. Written from
 * the comments of lib/native/decoder-spec.ts. `rowTable` is what an admission's `ropeTable` adds to each layer's own.
 */
export function float64Logits(
  spec: DecoderSpec,
  weights: Weights,
  tokens: readonly number[],
  rowTable = 0,
): number[][] {
  const { head } = spec;
  if (head === null) throw new Error('no language head');
  return float64Hidden(spec, weights, tokens, rowTable).map((last) => {
    const bias = head.hasBias ? 'head.bias' : null;
    const logits = product(weights, head.isTied ? 'embedding' : 'head', bias, last).map(
      (value) => value * head.scale,
    );
    return head.softCap === null ? logits : logits.map((value) => softCapped(value, head.softCap as number));
  });
}

/** What a `pool` request answers; tokens from `secondSegment` on have token type 1. */
export function float64Pooled(
  spec: DecoderSpec,
  weights: Weights,
  tokens: readonly number[],
  pooling: 'first' | 'mean' | 'last',
  secondSegment = 0,
): Vector {
  const hidden = float64Hidden(spec, weights, tokens, 0, secondSegment);
  const taken = pooling === 'mean' ? hidden : [hidden[pooling === 'first' ? 0 : hidden.length - 1] as Vector];
  const vector = (taken[0] as Vector).map(
    (_, i) => taken.reduce((sum, row) => sum + (row[i] as number), 0) / taken.length,
  );
  return spec.pooledLayers.reduce<Vector>((x, { hasBias, hasTanh }, i) => {
    const y = product(weights, `pooled.${i}`, hasBias ? `pooled.${i}.bias` : null, x);
    return hasTanh ? y.map(Math.tanh) : y;
  }, vector);
}

function float64Hidden(
  spec: DecoderSpec,
  weights: Weights,
  tokens: readonly number[],
  rowTable: number,
  secondSegment = 0,
): Vector[] {
  const { embedding, hiddenSize } = spec;
  let hidden: Vector[] = tokens.map((token, position) => {
    const row = rowOf(weights, 'embedding', token, hiddenSize).map((value) => value * embedding.scale);
    const positions = embedding.hasPositions
      ? rowOf(weights, 'position_embedding', position, hiddenSize)
      : null;
    const type = secondSegment > 0 && position >= secondSegment ? 1 : 0;
    const types =
      embedding.numTokenTypes > 0 ? rowOf(weights, 'token_type_embedding', type, hiddenSize) : null;
    const sum = row.map((value, i) => value + (positions?.[i] ?? 0) + (types?.[i] ?? 0));
    return normed(sum, embedding.norm, weights, 'embedding_norm');
  });
  for (const [i, layer] of spec.layers.entries())
    hidden = runLayer(spec, layer, `layers.${i}.`, weights, hidden, rowTable);
  return hidden.map((x) => normed(x, spec.finalNorm, weights, 'final_norm'));
}

function runLayer(
  spec: DecoderSpec,
  layer: LayerSpec,
  prefix: string,
  weights: Weights,
  hidden: readonly Vector[],
  rowTable: number,
): Vector[] {
  const { mlp, norm, normPlacement, residualScale } = layer;
  const subLayer = (
    name: string,
    x: readonly Vector[],
    run: (inputs: readonly Vector[]) => Vector[],
  ): Vector[] => {
    const role = `${prefix}${name}_norm`;
    const inputs = normPlacement === 'post' ? x : x.map((row) => normed(row, norm, weights, role));
    let outputs = run(inputs);
    if (normPlacement === 'sandwich') {
      outputs = outputs.map((row) => normed(row, norm, weights, `${prefix}${name}_post_norm`));
    }
    const sums = x.map((row, t) =>
      row.map((value, i) => value + residualScale * (outputs[t]?.[i] as number)),
    );
    return normPlacement === 'post' ? sums.map((row) => normed(row, norm, weights, role)) : sums;
  };
  const attended = subLayer('attention', hidden, (inputs) =>
    layer.attention.latent === null
      ? attention(spec, layer.attention, `${prefix}attention.`, weights, inputs, rowTable)
      : latentAttention(
          spec,
          layer.attention,
          layer.attention.latent,
          `${prefix}attention.`,
          weights,
          inputs,
        ),
  );
  return subLayer('mlp', attended, (inputs) =>
    inputs.map((x) =>
      mlp.kind === 'dense'
        ? denseMlp(mlp, `${prefix}mlp.`, weights, x)
        : mixtureOfExperts(mlp, `${prefix}mlp.`, weights, x),
    ),
  );
}

function denseMlp(mlp: MlpSpec, prefix: string, weights: Weights, x: Vector): Vector {
  const linear = (name: string, input: Vector): Vector =>
    product(weights, prefix + name, mlp.hasBias ? `${prefix}${name}.bias` : null, input);
  const up = linear('up', x);
  const activated = mlp.isGated
    ? linear('gate', x).map((value, i) => activation(mlp, value) * (up[i] as number))
    : up.map((value) => activation(mlp, value));
  return linear('down', activated);
}

function mixtureOfExperts(moe: MoeSpec, prefix: string, weights: Weights, x: Vector): Vector {
  const expert = (name: string): Vector => denseMlp(EXPERT(moe), `${prefix}${name}.`, weights, x);
  const out = x.map(() => 0);
  const add = (y: Vector, weight: number): void => {
    for (const [i, value] of y.entries()) out[i] = (out[i] as number) + weight * value;
  };
  for (const [i, weight] of routed(moe, prefix, weights, x)) add(expert(`experts.${i}`), weight);
  if (moe.sharedIntermediateSize > 0) {
    const [gate = 0] = moe.hasSharedGate ? product(weights, `${prefix}shared_gate`, null, x) : [];
    add(expert('shared'), moe.hasSharedGate ? 1 / (1 + Math.exp(-gate)) : 1);
  }
  return out;
}

const EXPERT = ({ activation: kind, intermediateSize }: MoeSpec): MlpSpec => ({
  kind: 'dense',
  intermediateSize,
  isGated: true,
  activation: kind,
  hasBias: false,
});

/** The experts of one token with their weights. */
function routed(moe: MoeSpec, prefix: string, weights: Weights, x: Vector): [number, number][] {
  const { score, hasCorrectionBias, numGroups, topGroups, normalizesTopK, scale } = moe.router;
  const logits = product(weights, `${prefix}router`, null, x);
  const exponentials = logits.map((logit) => Math.exp(logit));
  const total = exponentials.reduce((sum, value) => sum + value, 0);
  const scores = exponentials.map((value) => (score === 'softmax' ? value / total : value / (1 + value)));
  const correction = hasCorrectionBias ? get(weights, `${prefix}router.bias`) : null;
  const choices = scores.map((value, i) => value + (correction?.[i] ?? 0));
  const groupSize = moe.numExperts / numGroups;
  const groups = Array.from({ length: numGroups }, (_, group) => {
    const best = choices.slice(group * groupSize, (group + 1) * groupSize).sort((a, b) => b - a);
    return { group, merit: (best[0] as number) + (best[1] ?? 0) };
  }).sort((a, b) => b.merit - a.merit);
  const kept = new Set(groups.slice(0, topGroups).map(({ group }) => group));
  const chosen = choices
    .map((choice, i) => ({ choice, i }))
    .filter(({ i }) => kept.has(Math.floor(i / groupSize)))
    .sort((a, b) => b.choice - a.choice)
    .slice(0, moe.numExpertsPerToken)
    .map(({ i }) => i);
  const sum = normalizesTopK ? chosen.reduce((all, i) => all + (scores[i] as number), 0) : 1;
  return chosen.map((i) => [i, ((scores[i] as number) / sum) * scale]);
}

function activation({ activation: kind }: MlpSpec, x: number): number {
  switch (kind) {
    case 'silu':
      return x / (1 + Math.exp(-x));
    case 'relu':
      return Math.max(0, x);
    case 'gelu_tanh':
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    case 'gelu_erf':
      return 0.5 * x * (1 + erf(x / Math.SQRT2));
  }
}

/** By its power series, which converges everywhere; the arguments here are small. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n += 1) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

function attention(
  spec: DecoderSpec,
  settings: AttentionSpec,
  prefix: string,
  weights: Weights,
  inputs: readonly Vector[],
  rowTable: number,
): Vector[] {
  const { numQHeads, numKvHeads, headDim, valueDim, hasQkvBias, qkNorm } = settings;
  const table = settings.ropeTable === null ? null : (spec.ropeTables[settings.ropeTable + rowTable] ?? null);
  const heads = (role: string, x: Vector, dim: number): Vector[] => {
    const all = product(weights, prefix + role, hasQkvBias ? `${prefix}${role}.bias` : null, x);
    return Array.from({ length: all.length / dim }, (_, head) => all.slice(head * dim, (head + 1) * dim));
  };
  const rotated = (role: string): Vector[][] =>
    inputs.map((x, position) =>
      heads(role, x, headDim).map((head) =>
        rotate(normed(head, qkNorm, weights, `${prefix}${role}_norm`), table, position),
      ),
    );
  const queries = rotated('q');
  const keys = rotated('k');
  const values = inputs.map((x) => heads('v', x, valueDim));
  return queries.map((query, t) => {
    const first = settings.slidingWindow === null ? 0 : Math.max(0, t + 1 - settings.slidingWindow);
    const outputs = query.flatMap((q, head) => {
      const kvHead = Math.floor((head * numKvHeads) / numQHeads);
      const visible = (rows: readonly Vector[][]): Vector[] =>
        rows.slice(first, settings.isCausal ? t + 1 : rows.length).map((row) => row[kvHead] as Vector);
      return attend(q, visible(keys), visible(values), settings);
    });
    if (outputs.length !== numQHeads * valueDim) throw new Error('head sizes do not agree');
    return product(weights, `${prefix}o`, settings.hasOutputBias ? `${prefix}o.bias` : null, outputs);
  });
}

/** Makes the keys and values of every head, which the native decoder never does. */
function latentAttention(
  spec: DecoderSpec,
  settings: AttentionSpec,
  latent: LatentSpec,
  prefix: string,
  weights: Weights,
  inputs: readonly Vector[],
): Vector[] {
  const { queryRank, rank, nopeDim, ropeDim, outputDim, norm } = latent;
  const table = settings.ropeTable === null ? null : (spec.ropeTables[settings.ropeTable] ?? null);
  const first = (role: string, x: Vector): Vector =>
    product(weights, prefix + role, settings.hasQkvBias ? `${prefix}${role}.bias` : null, x);
  const headsOf = <T>(head: (index: number) => T): T[] =>
    Array.from({ length: settings.numQHeads }, (_, index) => head(index));
  const queries = inputs.map((x, t) => {
    const low = queryRank === null ? [] : normed(first('q_a', x), norm, weights, `${prefix}q_a_norm`);
    const all = queryRank === null ? first('q', x) : product(weights, `${prefix}q_b`, null, low);
    return headsOf((h) => {
      const q = all.slice(h * (nopeDim + ropeDim), (h + 1) * (nopeDim + ropeDim));
      return [...q.slice(0, nopeDim), ...rotate(q.slice(nopeDim), table, t)];
    });
  });
  const cached = inputs.map((x, t) => {
    const kv = first('kv_a', x);
    const c = normed(kv.slice(ropeDim), norm, weights, `${prefix}kv_a_norm`);
    return { rotated: rotate(kv.slice(0, ropeDim), table, t), c };
  });
  const keys = cached.map(({ rotated, c }) =>
    headsOf((h) => {
      const kB = get(weights, `${prefix}k_b.${h}`);
      const nope = Array.from({ length: nopeDim }, (_, i) =>
        c.reduce((sum, value, r) => sum + (kB[r * nopeDim + i] as number) * value, 0),
      );
      return [...nope, ...rotated];
    }),
  );
  const values = cached.map(({ c }) => headsOf((h) => product(weights, `${prefix}v_b.${h}`, null, c)));
  if (get(weights, `${prefix}k_b.0`).length !== rank * nopeDim) throw new Error('head sizes do not agree');
  return queries.map((query, t) => {
    const outputs = query.flatMap((q, h) => {
      const visible = (rows: readonly Vector[][]): Vector[] =>
        rows.slice(0, t + 1).map((row) => row[h] as Vector);
      return attend(q, visible(keys), visible(values), { ...settings, valueDim: outputDim });
    });
    return product(weights, `${prefix}o`, settings.hasOutputBias ? `${prefix}o.bias` : null, outputs);
  });
}

function attend(
  q: Vector,
  keys: readonly Vector[],
  values: readonly Vector[],
  settings: AttentionSpec,
): number[] {
  const { scale, softCap } = settings;
  const scores = keys
    .map((k) => k.reduce((sum, value, i) => sum + value * (q[i] as number), 0) * scale)
    .map((score) => (softCap === null ? score : softCapped(score, softCap)));
  const max = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(score - max));
  const total = shares.reduce((sum, share) => sum + share, 0);
  return Array.from({ length: settings.valueDim }, (_, i) =>
    values.reduce((sum, value, t) => sum + ((shares[t] as number) / total) * (value[i] as number), 0),
  );
}

function rotate(x: Vector, table: RopeTable | null, position: number): Vector {
  if (table === null) return x;
  const { rotaryDim, style, frequencies, attentionFactor } = table;
  const out = [...x];
  for (let pair = 0; pair < rotaryDim / 2; pair += 1) {
    const [a, b] = style === 'interleaved' ? [2 * pair, 2 * pair + 1] : [pair, pair + rotaryDim / 2];
    const angle = position * (frequencies[pair] as number);
    const [cos, sin] = [Math.cos(angle) * attentionFactor, Math.sin(angle) * attentionFactor];
    const [first, second] = [x[a] as number, x[b] as number];
    out[a] = first * cos - second * sin;
    out[b] = second * cos + first * sin;
  }
  return out;
}

function normed(x: Vector, norm: NormSpec | null, weights: Weights, role: string): Vector {
  if (norm === null) return x;
  const weight = get(weights, role);
  const bias = norm.hasBias ? get(weights, `${role}.bias`) : null;
  const mean = norm.kind === 'layer' ? x.reduce((sum, value) => sum + value, 0) / x.length : 0;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  const factor = 1 / Math.sqrt(variance + norm.epsilon);
  const offset = norm.hasUnitOffset ? 1 : 0;
  return x.map((value, i) => (value - mean) * factor * ((weight[i] as number) + offset) + (bias?.[i] ?? 0));
}

function product(weights: Weights, role: string, biasRole: string | null, x: Vector): number[] {
  const matrix = get(weights, role);
  const bias = biasRole === null ? null : get(weights, biasRole);
  const out = new Array<number>(matrix.length / x.length);
  for (let row = 0; row < out.length; row += 1) {
    let sum = bias?.[row] ?? 0;
    for (let i = 0; i < x.length; i += 1) sum += (matrix[row * x.length + i] as number) * (x[i] as number);
    out[row] = sum;
  }
  return out;
}

const softCapped = (x: number, cap: number): number => cap * Math.tanh(x / cap);

const rowOf = (weights: Weights, role: string, row: number, length: number): number[] =>
  Array.from({ length }, (_, i) => get(weights, role)[row * length + i] as number);

function get(weights: Weights, role: string): ArrayLike<number> {
  const values = weights.get(role);
  if (values === undefined) throw new Error(`no weight for ${role}`);
  return values;
}
