import { AutoglmError } from '../../errors';
import { Limits } from '../../native/abi';
import type { ModelHandle, NativeAddon } from '../../native/addon';
import type { StepPlan } from '../../scheduler/types';
import type { NativeModel } from './model-loading';
import type { AdmittedRequest } from './plan-writer';
import type { ResultBuffer } from './step-result';
import type { ChosenCut } from './tuning/model-tuning';

interface SubmittedStep {
  readonly model: NativeModel;
  readonly slot: number;
  readonly plan: StepPlan;
  readonly cut: ChosenCut | null;
}

/** A step and what came of it, until its slot is submitted again. */
export interface FinishedStep {
  readonly handle: ModelHandle;
  readonly slot: number;
  readonly plan: StepPlan;
  readonly result: ResultBuffer;
}

/**
 * The steps that native has, of a model and of its draft model.
 * Invariant: the plans of one model are submitted to its slots in turn, and finish in the order in which they came.
 */
export class SubmittedSteps {
  readonly #addon: NativeAddon;
  readonly #target: NativeModel;
  readonly #draft: NativeModel | null;
  readonly #inFlight: SubmittedStep[] = [];
  readonly #nextSlots = new Map<NativeModel, number>();

  constructor(addon: NativeAddon, target: NativeModel, draft: NativeModel | null) {
    this.#addon = addon;
    this.#target = target;
    this.#draft = draft;
  }

  get length(): number {
    return this.#inFlight.length;
  }

  /** Throws what writing the plan or the addon throws; the step has then not been submitted. */
  submit(plan: StepPlan, requestOf: (id: number, model: NativeModel) => AdmittedRequest): void {
    const model = plan.isDraft ? this.#draft : this.#target;
    if (model === null) throw new AutoglmError('internal', 'a draft step was planned without a draft model');
    const slot = this.#nextSlots.get(model) ?? 0;
    const cut = model.tuning?.choose(numPositions(plan)) ?? null;
    model.plans[slot]?.write(plan, cut?.cut ?? null, (id) => requestOf(id, model));
    this.#addon.submitStep(model.handle, slot);
    this.#inFlight.push({ model, slot, plan, cut });
    this.#nextSlots.set(model, (slot + 1) % Limits.queueDepth);
  }

  /** The oldest step, which the addon says is done. */
  finish(handle: ModelHandle, slot: number): FinishedStep {
    const step = this.#inFlight.shift();
    if (step === undefined || step.slot !== slot || step.model.handle !== handle) {
      throw new AutoglmError(
        'internal',
        `step in slot ${slot} of model ${handle} finished, expected slot ${step?.slot} of ${step?.model.handle}`,
      );
    }
    const { model, plan, cut } = step;
    const result = model.results[slot] as ResultBuffer;
    if (cut !== null && result.errorCode === 0) {
      const size = { numPositions: numPositions(plan), numEntries: plan.entries.length };
      model.tuning?.record(cut, size, result.elapsedMicros);
    }
    return { handle, slot, plan, result };
  }
}

const numPositions = ({ entries }: StepPlan): number => entries.reduce((sum, { count }) => sum + count, 0);
