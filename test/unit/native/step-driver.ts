import {
  Admission,
  Entry,
  EntryFlags,
  Limits,
  NATIVE_ERROR_CODES,
  PageUpdate,
  PlanHeader,
  Pooling,
  RequestKind,
  ResultHeader,
  ResultRow,
} from '../../../lib/native/abi';
import type { EngineHandle, ModelHandle, NativeAddon, NativeLoadRequest } from '../../../lib/native/addon';
import type { TinyModel } from './tiny-model';

export interface TestAdmission {
  readonly row: number;
  readonly generation?: number;
  readonly kind?: keyof typeof RequestKind;
  readonly tokens: readonly number[];
  readonly numPromptTokens?: number;
  readonly maxTokens?: number;
  readonly stopTokens?: readonly number[];
  readonly logitBias?: readonly (readonly [number, number])[];
  readonly positions?: readonly number[];
  readonly outputId?: number;
  readonly ropeTable?: number;
  readonly pooling?: keyof typeof Pooling;
  readonly secondSegment?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly numLogprobs?: number;
}

export interface TestEntry {
  readonly row: number;
  readonly generation?: number;
  readonly start: number;
  readonly count: number;
  readonly samples?: boolean;
  readonly drafts?: readonly number[];
}

export interface TestPlan {
  readonly admissions?: readonly TestAdmission[];
  /** [row, index, page] */
  readonly pageUpdates?: readonly (readonly [number, number, number])[];
  readonly entries?: readonly TestEntry[];
}

export interface TestResult {
  readonly step: number;
  readonly errorCode: string | null;
  /** What the addon says of it; null without an error. */
  readonly failure: string | null;
  readonly rows: readonly {
    readonly row: number;
    readonly generation: number;
    readonly token: number | null;
    readonly finish: number;
    readonly logprob: number;
    readonly top: readonly (readonly [number, number])[];
  }[];
}

const floatBits = (value: number): number => new Int32Array(Float32Array.of(value).buffer)[0] as number;

/** Words of a plan, as native/base/step_records.def lays them out. Written apart from the library's own writer. */
export function planWords(
  step: number,
  { admissions = [], pageUpdates = [], entries = [] }: TestPlan,
): number[] {
  const words = new Array<number>(PlanHeader.numWords).fill(0);
  words[PlanHeader.step] = step;
  words[PlanHeader.numAdmissions] = admissions.length;
  words[PlanHeader.admissionsOffset] = words.length;
  for (const admission of admissions) words.push(...admissionWords(admission));
  words[PlanHeader.numEntries] = entries.length;
  words[PlanHeader.entriesOffset] = words.length;
  for (const { row, generation = 1, start, count, samples = false, drafts = [] } of entries) {
    const record = new Array<number>(Entry.numWords).fill(0);
    record[Entry.row] = row;
    record[Entry.generation] = generation;
    record[Entry.start] = start;
    record[Entry.count] = count;
    record[Entry.flags] = samples ? EntryFlags.sample : 0;
    record[Entry.numDrafts] = drafts.length;
    words.push(...record);
  }
  words[PlanHeader.numPageUpdates] = pageUpdates.length;
  words[PlanHeader.pageUpdatesOffset] = words.length;
  for (const [row, index, page] of pageUpdates) {
    const record = new Array<number>(PageUpdate.numWords).fill(0);
    record[PageUpdate.row] = row;
    record[PageUpdate.index] = index;
    record[PageUpdate.page] = page;
    words.push(...record);
  }
  words[PlanHeader.draftsOffset] = words.length;
  for (const { drafts = [] } of entries) words.push(...drafts);
  words[PlanHeader.totalWords] = words.length;
  return words;
}

function admissionWords(admission: TestAdmission): number[] {
  const { tokens, stopTokens = [], logitBias = [], positions = [], seed = 1 } = admission;
  const record = new Array<number>(Admission.numWords).fill(0);
  record[Admission.row] = admission.row;
  record[Admission.generation] = admission.generation ?? 1;
  record[Admission.kind] = RequestKind[admission.kind ?? 'generate'];
  record[Admission.numTokens] = tokens.length;
  record[Admission.numPromptTokens] = admission.numPromptTokens ?? tokens.length;
  record[Admission.maxTokens] = admission.maxTokens ?? 100;
  record[Admission.numStopTokens] = stopTokens.length;
  record[Admission.numLogitBias] = logitBias.length;
  record[Admission.numPositions] = positions.length;
  record[Admission.outputId] = admission.outputId ?? 0;
  record[Admission.ropeTable] = admission.ropeTable ?? 0;
  record[Admission.pooling] = Pooling[admission.pooling ?? 'first'];
  record[Admission.secondSegment] = admission.secondSegment ?? 0;
  record[Admission.temperature] = floatBits(admission.temperature ?? 0);
  record[Admission.topK] = admission.topK ?? 0;
  record[Admission.topP] = floatBits(admission.topP ?? 1);
  record[Admission.minP] = floatBits(0);
  record[Admission.repetitionPenalty] = floatBits(admission.repetitionPenalty ?? 1);
  record[Admission.presencePenalty] = floatBits(admission.presencePenalty ?? 0);
  record[Admission.frequencyPenalty] = floatBits(admission.frequencyPenalty ?? 0);
  record[Admission.seedLow] = seed;
  record[Admission.numLogprobs] = admission.numLogprobs ?? -1;
  const biasWords = logitBias.flatMap(([token, bias]) => [token, floatBits(bias)]);
  record.push(...tokens, ...stopTokens, ...biasWords, ...positions);
  record[Admission.words] = record.length;
  return record;
}

const sharedWords = (length: number): Int32Array =>
  new Int32Array(new SharedArrayBuffer(length * Int32Array.BYTES_PER_ELEMENT));

const perSlot = (length: number): Int32Array[] =>
  Array.from({ length: Limits.queueDepth }, () => sharedWords(length));

export type LoadChanges = Partial<NativeLoadRequest>;

/** An engine of its own and the step callbacks of its models. */
export class TestEngine {
  readonly handle: EngineHandle;
  readonly waiting = new Map<string, () => void>();
  /** Model and slot of every callback, in order. */
  readonly finished: [ModelHandle, number][] = [];

  constructor(
    readonly addon: NativeAddon,
    threads = 2,
    isa: string | null = null,
  ) {
    this.handle = addon.createEngine({ threads, isa }, (model, slot) => {
      this.finished.push([model, slot]);
      const key = `${model}:${slot}`;
      const resolve = this.waiting.get(key);
      this.waiting.delete(key);
      resolve?.();
    });
  }

  load(tiny: TinyModel, changes: LoadChanges = {}): Promise<TestModel> {
    return TestModel.load(this, tiny, changes);
  }

  close(): Promise<void> {
    return this.addon.closeEngine(this.handle);
  }
}

/** Drives one loaded model step by step. */
export class TestModel {
  #step = 0;
  #slot = 0;

  private constructor(
    readonly engine: TestEngine,
    readonly handle: ModelHandle,
    readonly request: NativeLoadRequest,
  ) {}

  static requestFor(tiny: TinyModel, changes: LoadChanges = {}): NativeLoadRequest {
    const maxRows = changes.maxRows ?? 8;
    const numResultWords = ResultHeader.numWords + (maxRows + Limits.maxStepDrafts) * Limits.resultRowWords;
    return {
      spec: tiny.spec,
      files: changes.files ?? tiny.files,
      tensors: tiny.tensors,
      packed: null,
      precision: 'exact',
      kvDtype: 'f32',
      device: null,
      numPages: 64,
      maxRows,
      maxStepTokens: 128,
      plans: perSlot(8192),
      results: perSlot(numResultWords),
      cancel: sharedWords(1),
      ...changes,
    };
  }

  static async load(engine: TestEngine, tiny: TinyModel, changes: LoadChanges): Promise<TestModel> {
    const request = TestModel.requestFor(tiny, changes);
    const handle = await engine.addon.loadModel(engine.handle, request, () => undefined);
    return new TestModel(engine, handle, request);
  }

  /** Writes and submits a plan; the promise resolves when its step has finished. */
  submit(plan: TestPlan): Promise<TestResult> {
    const step = this.#step;
    this.#step += 1;
    return this.submitWords(planWords(step, plan));
  }

  submitWords(words: readonly number[]): Promise<TestResult> {
    const slot = this.#slot;
    const { addon, waiting } = this.engine;
    const done = new Promise<void>((resolve) => {
      waiting.set(`${this.handle}:${slot}`, resolve);
    });
    this.request.plans[slot]?.set(words);
    addon.submitStep(this.handle, slot);
    this.#slot = (slot + 1) % Limits.queueDepth;
    return done.then(() => {
      const result = readResult(this.request.results[slot] as Int32Array);
      return { ...result, failure: result.errorCode === null ? null : addon.stepFailure(this.handle, slot) };
    });
  }

  /** Pages `first`, `first + 1`, ... for the first `numTokens` tokens of a row. */
  pages(row: number, numTokens: number, first = row * 8): [number, number, number][] {
    return Array.from({ length: Math.ceil(numTokens / Limits.pageSize) }, (_, i) => [row, i, first + i]);
  }

  /** One request from prompt to end, alone in the model, its prompt in chunks of `chunk`. */
  async generate(admission: TestAdmission, chunk = 1 << 20): Promise<number[]> {
    const { row, generation = 1, tokens, maxTokens = 100 } = admission;
    const output: number[] = [];
    let start = 0;
    for (let length = tokens.length; ; ) {
      const count = Math.min(chunk, length - start);
      const isFirst = start === 0;
      const result = await this.submit({
        admissions: isFirst ? [admission] : [],
        pageUpdates: isFirst ? this.pages(row, tokens.length + maxTokens) : [],
        entries: [{ row, generation, start, count, samples: start + count === length }],
      });
      if (result.errorCode !== null) throw new Error(`step failed with ${result.errorCode}`);
      start += count;
      const { token, finish } = result.rows[0] ?? { token: null, finish: -1 };
      if (token === null) continue;
      output.push(token);
      length += 1;
      if (finish !== 0) return output;
    }
  }

  /** Logits at `positions` of one sequence. */
  async logits(
    tokens: readonly number[],
    positions: readonly number[],
    ropeTable = 0,
  ): Promise<Float32Array> {
    const { addon } = this.engine;
    const vocabSize = this.request.spec.vocabSize;
    const output = new Float32Array(new SharedArrayBuffer(4 * positions.length * vocabSize));
    addon.setOutput(this.handle, 77, output);
    const admission: TestAdmission = {
      row: 0,
      kind: 'logits',
      tokens,
      positions,
      outputId: 77,
      ropeTable,
      maxTokens: 0,
    };
    const { errorCode, rows } = await this.submit({
      admissions: [admission],
      pageUpdates: this.pages(0, tokens.length),
      entries: [{ row: 0, start: 0, count: tokens.length }],
    });
    addon.setOutput(this.handle, 77, null);
    if (errorCode !== null || rows[0]?.finish !== 0) {
      throw new Error(`logits failed with ${errorCode}, finish ${rows[0]?.finish}`);
    }
    return output;
  }

  close(): Promise<void> {
    return this.engine.addon.closeModel(this.handle);
  }
}

function readResult(words: Int32Array): Omit<TestResult, 'failure'> {
  const at = (index: number): number => words[index] as number;
  const floats = new Float32Array(words.buffer);
  const code = at(ResultHeader.errorCode);
  return {
    step: at(ResultHeader.step),
    errorCode: code === 0 ? null : (NATIVE_ERROR_CODES[code - 1] ?? `code ${code}`),
    rows: Array.from({ length: at(ResultHeader.numRows) }, (_, i) => {
      const row = ResultHeader.numWords + i * Limits.resultRowWords;
      const tops = row + ResultRow.tops;
      return {
        row: at(row + ResultRow.row),
        generation: at(row + ResultRow.generation),
        token: at(row + ResultRow.numTokens) > 0 ? at(row + ResultRow.token) : null,
        finish: at(row + ResultRow.finish),
        logprob: floats[row + ResultRow.logprob] as number,
        top: Array.from({ length: at(row + ResultRow.numTop) }, (_, rank) => [
          at(tops + rank),
          floats[tops + Limits.maxLogprobs + rank] as number,
        ]),
      };
    }),
  };
}
