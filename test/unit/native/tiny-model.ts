import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NativeFile, NativeTensor } from '../../../lib/native/addon';
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

/** Numbers in [0, 1) from a seed. Source: mulberry32, public domain. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const RMS: NormSpec = { kind: 'rms', epsilon: 1e-5, hasUnitOffset: false, hasBias: false };
export const LAYER: NormSpec = { kind: 'layer', epsilon: 1e-5, hasUnitOffset: false, hasBias: true };

const ATTENTION: AttentionSpec = {
  numQHeads: 4,
  numKvHeads: 2,
  headDim: 16,
  valueDim: 16,
  scale: 0.25,
  hasQkvBias: false,
  hasOutputBias: false,
  qkNorm: null,
  slidingWindow: null,
  softCap: null,
  isCausal: true,
  ropeTable: 0,
  latent: null,
};
const MLP: MlpSpec = {
  kind: 'dense',
  intermediateSize: 96,
  isGated: true,
  activation: 'silu',
  hasBias: false,
};

const MOE: MoeSpec = {
  kind: 'moe',
  numExperts: 6,
  numExpertsPerToken: 2,
  intermediateSize: 32,
  sharedIntermediateSize: 0,
  hasSharedGate: false,
  activation: 'silu',
  router: {
    score: 'softmax',
    hasCorrectionBias: false,
    numGroups: 1,
    topGroups: 1,
    normalizesTopK: true,
    scale: 1,
  },
};

export interface MoeChanges extends Partial<Omit<MoeSpec, 'router'>> {
  readonly router?: Partial<MoeSpec['router']>;
}

/** A small mixture of experts, and what a test changes of it. */
export const moeSpec = ({ router, ...changes }: MoeChanges = {}): MoeSpec => ({
  ...MOE,
  ...changes,
  router: { ...MOE.router, ...router },
});

const LATENT: LatentSpec = {
  queryRank: 24,
  rank: 32,
  nopeDim: 12,
  ropeDim: 16,
  outputDim: 20,
  norm: RMS,
};

/** Latent attention of four heads, and what a test changes of it. */
export function latentAttention(changes: Partial<LatentSpec> = {}): Partial<AttentionSpec> {
  const latent = { ...LATENT, ...changes };
  const { ropeDim, rank, nopeDim } = latent;
  return {
    numKvHeads: 1,
    headDim: ropeDim + rank,
    valueDim: rank,
    scale: (nopeDim + ropeDim) ** -0.5,
    latent,
  };
}

export function ropeTable(
  rotaryDim: number,
  style: RopeTable['style'],
  attentionFactor = 1,
  base = 100,
): RopeTable {
  const frequencies = Float64Array.from({ length: rotaryDim / 2 }, (_, i) => base ** ((-2 * i) / rotaryDim));
  return { rotaryDim, style, frequencies, attentionFactor };
}

export interface LayerChanges extends Partial<Omit<LayerSpec, 'attention' | 'mlp'>> {
  readonly attention?: Partial<AttentionSpec>;
  readonly mlp?: Partial<MlpSpec> | MoeSpec;
}

/** A decoder of a few thousand weights: a plain llama, and what a test changes of it. */
export function tinySpec(
  changes: Partial<DecoderSpec> = {},
  layers: readonly LayerChanges[] = [{}, {}],
): DecoderSpec {
  return {
    vocabSize: 97,
    hiddenSize: 64,
    contextLength: 512,
    embedding: { scale: 1, hasPositions: false, numTokenTypes: 0, norm: null },
    layers: layers.map(({ attention, mlp, ...layer }) => ({
      attention: { ...ATTENTION, ...attention },
      mlp: mlp?.kind === 'moe' ? mlp : { ...MLP, ...mlp },
      normPlacement: 'pre',
      norm: RMS,
      residualScale: 1,
      ...layer,
    })),
    finalNorm: RMS,
    head: { isTied: true, hasBias: false, softCap: null, scale: 1 },
    pooledLayers: [],
    ropeTables: [ropeTable(16, 'half_split')],
    ropeSwitchLength: null,
    ...changes,
  };
}

/** Every role that a spec asks for, with its shape. */
export function rolesOf(spec: DecoderSpec): Map<string, readonly number[]> {
  const roles = new Map<string, readonly number[]>();
  const { hiddenSize, vocabSize } = spec;
  const addNorm = (role: string, norm: NormSpec | null, length: number): void => {
    if (norm === null) return;
    roles.set(role, [length]);
    if (norm.hasBias) roles.set(`${role}.bias`, [length]);
  };
  const addMatrix = (role: string, rows: number, columns: number, hasBias: boolean): void => {
    roles.set(role, [rows, columns]);
    if (hasBias) roles.set(`${role}.bias`, [rows]);
  };
  const addLatent = (prefix: string, attention: AttentionSpec, latent: LatentSpec): void => {
    const { numQHeads, hasQkvBias } = attention;
    const numQueries = numQHeads * (latent.nopeDim + latent.ropeDim);
    if (latent.queryRank === null) addMatrix(`${prefix}q`, numQueries, hiddenSize, hasQkvBias);
    else {
      addMatrix(`${prefix}q_a`, latent.queryRank, hiddenSize, hasQkvBias);
      addNorm(`${prefix}q_a_norm`, latent.norm, latent.queryRank);
      addMatrix(`${prefix}q_b`, numQueries, latent.queryRank, false);
    }
    addMatrix(`${prefix}kv_a`, latent.ropeDim + latent.rank, hiddenSize, hasQkvBias);
    addNorm(`${prefix}kv_a_norm`, latent.norm, latent.rank);
    for (let h = 0; h < numQHeads; h += 1) {
      addMatrix(`${prefix}k_b.${h}`, latent.rank, latent.nopeDim, false);
      addMatrix(`${prefix}v_b.${h}`, latent.outputDim, latent.rank, false);
    }
    addMatrix(`${prefix}o`, hiddenSize, numQHeads * latent.outputDim, attention.hasOutputBias);
  };
  const addMlp = (prefix: string, mlp: MlpSpec | MoeSpec): void => {
    const add = (at: string, intermediateSize: number, isGated: boolean, hasBias: boolean): void => {
      if (isGated) addMatrix(`${at}gate`, intermediateSize, hiddenSize, hasBias);
      addMatrix(`${at}up`, intermediateSize, hiddenSize, hasBias);
      addMatrix(`${at}down`, hiddenSize, intermediateSize, hasBias);
    };
    if (mlp.kind === 'dense') {
      add(prefix, mlp.intermediateSize, mlp.isGated, mlp.hasBias);
      return;
    }
    addMatrix(`${prefix}router`, mlp.numExperts, hiddenSize, mlp.router.hasCorrectionBias);
    for (let e = 0; e < mlp.numExperts; e += 1)
      add(`${prefix}experts.${e}.`, mlp.intermediateSize, true, false);
    if (mlp.sharedIntermediateSize > 0) add(`${prefix}shared.`, mlp.sharedIntermediateSize, true, false);
    if (mlp.hasSharedGate) addMatrix(`${prefix}shared_gate`, 1, hiddenSize, false);
  };
  addMatrix('embedding', vocabSize, hiddenSize, false);
  if (spec.embedding.hasPositions) addMatrix('position_embedding', spec.contextLength, hiddenSize, false);
  if (spec.embedding.numTokenTypes > 0) {
    addMatrix('token_type_embedding', spec.embedding.numTokenTypes, hiddenSize, false);
  }
  addNorm('embedding_norm', spec.embedding.norm, hiddenSize);
  for (const [i, { attention, mlp, norm, normPlacement }] of spec.layers.entries()) {
    const { numQHeads, numKvHeads, headDim, valueDim, hasQkvBias } = attention;
    for (const part of ['attention', 'mlp']) {
      addNorm(`layers.${i}.${part}_norm`, norm, hiddenSize);
      if (normPlacement === 'sandwich') addNorm(`layers.${i}.${part}_post_norm`, norm, hiddenSize);
    }
    const prefix = `layers.${i}.attention.`;
    if (attention.latent !== null) addLatent(prefix, attention, attention.latent);
    else {
      addMatrix(`${prefix}q`, numQHeads * headDim, hiddenSize, hasQkvBias);
      addMatrix(`${prefix}k`, numKvHeads * headDim, hiddenSize, hasQkvBias);
      addMatrix(`${prefix}v`, numKvHeads * valueDim, hiddenSize, hasQkvBias);
      addMatrix(`${prefix}o`, hiddenSize, numQHeads * valueDim, attention.hasOutputBias);
    }
    addNorm(`${prefix}q_norm`, attention.qkNorm, headDim);
    addNorm(`${prefix}k_norm`, attention.qkNorm, headDim);
    addMlp(`layers.${i}.mlp.`, mlp);
  }
  addNorm('final_norm', spec.finalNorm, hiddenSize);
  if (spec.head !== null && !spec.head.isTied) addMatrix('head', vocabSize, hiddenSize, false);
  if (spec.head?.hasBias) roles.set('head.bias', [vocabSize]);
  let inSize = hiddenSize;
  for (const [i, { outSize, hasBias }] of spec.pooledLayers.entries()) {
    addMatrix(`pooled.${i}`, outSize, inSize, hasBias);
    inSize = outSize;
  }
  return roles;
}

/** Random float32 weights of a spec, in one file of a folder of its own. */
export class TinyModel {
  readonly weights = new Map<string, Float32Array>();
  readonly folder = mkdtempSync(join(tmpdir(), 'open-autoglm-tiny-'));
  readonly path = join(this.folder, 'weights.bin');
  readonly tensors: readonly NativeTensor[];

  constructor(
    readonly spec: DecoderSpec,
    seed = 1,
    spread = 0.4,
  ) {
    const random = seededRandom(seed);
    const parts: Uint8Array[] = [];
    const tensors: NativeTensor[] = [];
    let offset = 0;
    for (const [role, shape] of rolesOf(spec)) {
      const length = shape.reduce((product, size) => product * size, 1);
      const isScale = /norm$/.test(role);
      const values = Float32Array.from({ length }, () => (random() - 0.5) * spread * 2 + (isScale ? 1 : 0));
      this.weights.set(role, values);
      parts.push(new Uint8Array(values.buffer));
      const slices = [{ file: 0, offset, byteLength: values.byteLength }];
      tensors.push({ role, source: { format: 'f32', shape, slices, rowOrder: null, isTransposed: false } });
      offset += values.byteLength;
    }
    this.tensors = tensors;
    writeFileSync(this.path, Buffer.concat(parts));
  }

  get files(): readonly NativeFile[] {
    const { size, mtimeMs } = statSync(this.path);
    return [{ path: this.path, size, mtimeMs }];
  }

  /** Overwrites one stored number, counted in elements of the role's tensor. */
  poison(role: string, element: number, value: number): void {
    const at = this.tensors.find((tensor) => tensor.role === role)?.source.slices[0]?.offset ?? 0;
    const bytes = readFileSync(this.path);
    bytes.writeFloatLE(value, at + 4 * element);
    writeFileSync(this.path, bytes);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
