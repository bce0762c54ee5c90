import { AutoglmError } from '../../errors';
import { Admission, Entry, EntryFlags, PageUpdate, PlanHeader } from '../../native/abi';
import type { PlanAdmission, StepPlan } from '../../scheduler/types';
import type { RequestSettings } from './protocol';
import type { StepCut } from './tuning/step-cut';

/** What an admission record says of a request beyond the scheduler's plan. */
export interface AdmittedRequest {
  readonly settings: RequestSettings;
  readonly numPromptTokens: number;
  readonly ropeTable: number;
  readonly adapter: number;
  readonly outputId: number;
}

/**
 * One plan in memory shared with the addon. The scheduler's side writes it between two submits of its slot, the engine
 * thread reads it in between; nobody else touches it.
 */
export class PlanBuffer {
  readonly words: Int32Array;
  readonly #floats: Float32Array;

  constructor(numWords: number) {
    const memory = new SharedArrayBuffer(numWords * Int32Array.BYTES_PER_ELEMENT);
    this.words = new Int32Array(memory);
    this.#floats = new Float32Array(memory);
  }

  /** Layout: native/base/step_records.def. Without a cut the work is cut as it suits most machines. */
  write(plan: StepPlan, cut: StepCut | null, requestOf: (id: number) => AdmittedRequest): void {
    const { words } = this;
    let at: number = PlanHeader.numWords;
    words[PlanHeader.step] = plan.step;
    words[PlanHeader.numThreads] = cut?.numThreads ?? 0;
    words[PlanHeader.chunkPercent] = cut?.chunkPercent ?? 0;
    words[PlanHeader.numAdmissions] = plan.admissions.length;
    words[PlanHeader.admissionsOffset] = at;
    for (const admission of plan.admissions)
      at = this.#writeAdmission(at, admission, requestOf(admission.id));

    const numDrafts = plan.entries.reduce((sum, { drafts }) => sum + drafts.length, 0);
    this.#reserve(
      at,
      plan.entries.length * Entry.numWords + plan.pageUpdates.length * PageUpdate.numWords + numDrafts,
    );
    words[PlanHeader.numEntries] = plan.entries.length;
    words[PlanHeader.entriesOffset] = at;
    for (const entry of plan.entries) {
      words[at + Entry.row] = entry.row;
      words[at + Entry.generation] = entry.generation;
      words[at + Entry.start] = entry.start;
      words[at + Entry.count] = entry.count;
      words[at + Entry.flags] = entry.samples ? EntryFlags.sample : 0;
      words[at + Entry.numDrafts] = entry.drafts.length;
      at += Entry.numWords;
    }

    words[PlanHeader.numPageUpdates] = plan.pageUpdates.length;
    words[PlanHeader.pageUpdatesOffset] = at;
    for (const update of plan.pageUpdates) {
      words[at + PageUpdate.row] = update.row;
      words[at + PageUpdate.index] = update.index;
      words[at + PageUpdate.page] = update.page;
      at += PageUpdate.numWords;
    }

    words[PlanHeader.draftsOffset] = at;
    for (const { drafts } of plan.entries) {
      words.set(drafts, at);
      at += drafts.length;
    }
    words[PlanHeader.totalWords] = at;
  }

  #writeAdmission(at: number, admission: PlanAdmission, request: AdmittedRequest): number {
    const { settings } = request;
    const { stopTokens, biasTokens, positions } = settings;
    const numWords = admissionWords(admission.tokens.length, settings);
    this.#reserve(at, numWords);
    const { words } = this;
    words[at + Admission.words] = numWords;
    words[at + Admission.row] = admission.row;
    words[at + Admission.generation] = admission.generation;
    words[at + Admission.kind] = settings.kind;
    words[at + Admission.numTokens] = admission.tokens.length;
    words[at + Admission.numPromptTokens] = request.numPromptTokens;
    words[at + Admission.maxTokens] = settings.maxTokens;
    words[at + Admission.numStopTokens] = stopTokens.length;
    words[at + Admission.numLogitBias] = biasTokens.length;
    words[at + Admission.numPositions] = positions.length;
    words[at + Admission.outputId] = request.outputId;
    words[at + Admission.ropeTable] = request.ropeTable;
    words[at + Admission.adapter] = request.adapter;
    words[at + Admission.pooling] = settings.pooling;
    words[at + Admission.secondSegment] = settings.secondSegment;
    this.#writeSampling(at, settings);

    let tail = at + Admission.numWords;
    words.set(admission.tokens, tail);
    tail += admission.tokens.length;
    words.set(stopTokens, tail);
    tail += stopTokens.length;
    for (let i = 0; i < biasTokens.length; i += 1) {
      words[tail] = biasTokens[i] ?? 0;
      this.#floats[tail + 1] = settings.biasValues[i] ?? 0;
      tail += 2;
    }
    words.set(positions, tail);
    return at + numWords;
  }

  #writeSampling(at: number, { sampling, numLogprobs }: RequestSettings): void {
    const floats = this.#floats;
    floats[at + Admission.temperature] = sampling.temperature;
    this.words[at + Admission.topK] = sampling.topK;
    floats[at + Admission.topP] = sampling.topP;
    floats[at + Admission.minP] = sampling.minP;
    floats[at + Admission.repetitionPenalty] = sampling.repetitionPenalty;
    floats[at + Admission.presencePenalty] = sampling.presencePenalty;
    floats[at + Admission.frequencyPenalty] = sampling.frequencyPenalty;
    this.words[at + Admission.seedLow] = sampling.seed % 2 ** 32; // stored modulo 2^32: the bits are what counts
    this.words[at + Admission.seedHigh] = Math.floor(sampling.seed / 2 ** 32);
    this.words[at + Admission.numLogprobs] = numLogprobs;
  }

  #reserve(at: number, numWords: number): void {
    if (at + numWords <= this.words.length) return;
    throw new AutoglmError(
      'internal',
      `a step plan needs ${at + numWords} words, its buffer holds ${this.words.length}`,
    );
  }
}

/** Words of an admission record with its tails. */
export function admissionWords(numTokens: number, settings: RequestSettings): number {
  const { stopTokens, biasTokens, positions } = settings;
  return Admission.numWords + numTokens + stopTokens.length + 2 * biasTokens.length + positions.length;
}
