import type { MoeSpec } from '../../native/decoder-spec';
import type { Checkpoint } from '../checkpoint-types';
import type { ExpertSettings } from './settings/expert-settings';
import type { RowRange, WeightMap } from './weight-map';

/** A mixture of experts as a checkpoint has it. */
export interface ExpertLayers extends ExpertSettings {
  readonly tensors: ExpertTensors;
}

interface GatedNames {
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/** A stack [experts, rows, columns] and the rows that a role takes of each expert. */
interface StackPart {
  readonly name: string;
  readonly rows?: RowRange;
}

/** All names are whole and follow the layer's prefix. */
export interface ExpertTensors {
  readonly router: string;
  readonly correction: string | null;
  readonly experts: SeparateExperts | StackedExperts;
  readonly shared: GatedNames | null;
  /** [1, hiddenSize] or [hiddenSize]. */
  readonly sharedGate: string | null;
}

export interface SeparateExperts {
  readonly kind: 'separate';
  readonly names: (expert: number) => GatedNames;
}

export interface StackedExperts {
  readonly kind: 'stacked';
  readonly gate: StackPart;
  readonly up: StackPart;
  readonly down: StackPart;
}

/** Names that transformers gives; `shared` is the family's word for the shared expert. */
export function huggingfaceExperts(
  checkpoint: Checkpoint,
  spec: MoeSpec,
  shared: string | null,
): ExpertTensors {
  const projections = (prefix: string): GatedNames => ({
    gate: `${prefix}.gate_proj.weight`,
    up: `${prefix}.up_proj.weight`,
    down: `${prefix}.down_proj.weight`,
  });
  return {
    router: 'mlp.gate.weight',
    correction: spec.router.hasCorrectionBias ? 'mlp.gate.e_score_correction_bias' : null,
    experts: hasFusedStacks(checkpoint)
      ? fusedStacks(spec)
      : { kind: 'separate', names: (expert) => projections(`mlp.experts.${expert}`) },
    shared: shared === null || spec.sharedIntermediateSize === 0 ? null : projections(`mlp.${shared}`),
    sharedGate: spec.hasSharedGate ? 'mlp.shared_expert_gate.weight' : null,
  };
}

/** transformers holds all experts of a layer in two tensors, and can save them so. */
export function hasFusedStacks(checkpoint: Checkpoint): boolean {
  for (const name of checkpoint.tensors.keys()) if (name.endsWith('.mlp.experts.down_proj')) return true;
  return false;
}

/** Gate rows come first, then as many up rows. */
export function fusedStacks({ intermediateSize }: MoeSpec): StackedExperts {
  const name = 'mlp.experts.gate_up_proj';
  const total = 2 * intermediateSize;
  return {
    kind: 'stacked',
    gate: { name, rows: { first: 0, total } },
    up: { name, rows: { first: intermediateSize, total } },
    down: { name: 'mlp.experts.down_proj' },
  };
}

/** Names of GGUF files. */
export function ggufExperts(spec: MoeSpec): ExpertTensors {
  return {
    router: 'ffn_gate_inp.weight',
    correction: spec.router.hasCorrectionBias ? 'exp_probs_b.bias' : null,
    experts: {
      kind: 'stacked',
      gate: { name: 'ffn_gate_exps.weight' },
      up: { name: 'ffn_up_exps.weight' },
      down: { name: 'ffn_down_exps.weight' },
    },
    shared:
      spec.sharedIntermediateSize === 0
        ? null
        : { gate: 'ffn_gate_shexp.weight', up: 'ffn_up_shexp.weight', down: 'ffn_down_shexp.weight' },
    sharedGate: spec.hasSharedGate ? 'ffn_gate_inp_shexp.weight' : null,
  };
}

/** A config may ask for millions of experts; after this many that are not there, no more are looked for. */
const MAX_MISSING = 1000;

/** Finds the tensors of one layer's experts. */
export function mapExperts(
  weights: WeightMap,
  layer: number,
  prefix: string,
  { spec, tensors }: ExpertLayers,
  hiddenSize: number,
): void {
  const role = (name: string): string => `layers.${layer}.mlp.${name}`;
  const { experts, shared, sharedGate, correction } = tensors;
  weights.matrix(role('router'), prefix + tensors.router, [spec.numExperts, hiddenSize]);
  if (correction !== null) weights.vector(role('router.bias'), prefix + correction, spec.numExperts);
  const gated = (to: string, names: GatedNames, intermediateSize: number): void => {
    weights.matrix(role(`${to}.gate`), prefix + names.gate, [intermediateSize, hiddenSize]);
    weights.matrix(role(`${to}.up`), prefix + names.up, [intermediateSize, hiddenSize]);
    weights.matrix(role(`${to}.down`), prefix + names.down, [hiddenSize, intermediateSize]);
  };
  for (let expert = 0; expert < spec.numExperts; expert += 1) {
    if (weights.numMissing >= MAX_MISSING) return;
    if (experts.kind === 'separate') {
      gated(`experts.${expert}`, experts.names(expert), spec.intermediateSize);
      continue;
    }
    const stack = { index: expert, count: spec.numExperts };
    const part = (to: string, { name, rows }: StackPart, shape: readonly [number, number]): void =>
      weights.matrix(role(`experts.${expert}.${to}`), prefix + name, shape, { rows, stack });
    part('gate', experts.gate, [spec.intermediateSize, hiddenSize]);
    part('up', experts.up, [spec.intermediateSize, hiddenSize]);
    part('down', experts.down, [hiddenSize, spec.intermediateSize]);
  }
  if (shared !== null) gated('shared', shared, spec.sharedIntermediateSize);
  if (sharedGate !== null) weights.row(role('shared_gate'), prefix + sharedGate, hiddenSize);
}
