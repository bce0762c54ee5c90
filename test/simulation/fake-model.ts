import { Finish, Limits, RequestKind } from '../../lib/native/abi';
import type { EntryResult, PlanEntry, StepPlan, StepResult } from '../../lib/scheduler/types';

/** What a slot of the KV pool holds before anyone wrote it. */
const POISON = 0x0badc0de;
export const VOCABULARY = 1 << 20;
/** One token in this many ends a request that stops. */
const STOP_EVERY = 40;

/** What the fake model knows of a request beyond the plan. */
export interface ModelRequest {
  readonly id: number;
  readonly kind: number;
  readonly promptTokens: Int32Array;
  readonly maxTokens: number;
  readonly salt: string;
  readonly stops: boolean;
}

/** A scrambling of two 32-bit words. */
export function mix(a: number, b: number): number {
  let bits = Math.imul(a ^ Math.imul(b, 0x9e3779b1), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 15), 0xc2b2ae35);
  return (bits ^ (bits >>> 13)) | 0;
}

const saltWord = (salt: string): number => [...salt].reduce((word, char) => mix(word, char.charCodeAt(0)), 1);
/** The fake key and value of one position: it depends on everything read before it. */
const valueAt = (salt: number, token: number, position: number, read: number): number =>
  mix(mix(salt, token), mix(read, position));
/** The token drawn after what has been read. */
export const tokenAfter = (read: number): number => (read >>> 0) % VOCABULARY;
const isStop = (request: ModelRequest, token: number): boolean => request.stops && token % STOP_EVERY === 0;

export interface SoloRun {
  readonly tokens: readonly number[];
  readonly reason: 'stop' | 'length' | 'evaluated';
  /** What an evaluation puts out for each prompt position. */
  readonly values: readonly number[];
}

/** What the request gets when it runs alone, without pages. `maxTokens` is what the context leaves room for. */
export function soloRun(request: ModelRequest, maxTokens: number): SoloRun {
  const salt = saltWord(request.salt);
  const values: number[] = [];
  let read = 0;
  const compute = (token: number): void => {
    const value = valueAt(salt, token, values.length, read);
    values.push(value);
    read = mix(read, value);
  };
  for (const token of request.promptTokens) compute(token);
  if (request.kind !== RequestKind.generate) return { tokens: [], reason: 'evaluated', values };
  const tokens: number[] = [];
  for (;;) {
    const token = tokenAfter(read);
    tokens.push(token);
    if (isStop(request, token)) return { tokens, reason: 'stop', values: [] };
    if (tokens.length === maxTokens) return { tokens, reason: 'length', values: [] };
    compute(token);
  }
}

/** What a sequence alone makes the model read. */
export function readAfter(tokens: readonly number[], salt: string): number {
  const word = saltWord(salt);
  let read = 0;
  tokens.forEach((token, position) => {
    read = mix(read, valueAt(word, token, position, read));
  });
  return read;
}

interface Row {
  readonly generation: number;
  readonly request: ModelRequest;
  readonly tokens: number[];
  readonly pageTable: number[];
  numComputed: number | null;
  isFinished: boolean;
}

/**
 * Runs step plans as the native engine does, over a pool of slots that starts poisoned. The next token is a hash of what
 * is read through the page table, so a wrong, stale, shared or unwritten page changes it.
 */
export class FakeEngine {
  readonly #slots: Int32Array;
  readonly #rows = new Map<number, Row>();
  readonly #requestOf: (id: number) => ModelRequest;
  /** Output buffers of evaluations. */
  readonly outputs = new Map<number, Int32Array>();

  readonly #draw: (read: number) => number;

  constructor(numPages: number, requestOf: (id: number) => ModelRequest, draw = tokenAfter) {
    this.#draw = draw;
    this.#slots = new Int32Array(numPages * Limits.pageSize).fill(POISON);
    this.#requestOf = requestOf;
  }

  /** `breaks` says which entries compute no finite number. */
  execute(plan: StepPlan, breaks: (entry: PlanEntry) => boolean): StepResult {
    for (const { row, generation, id, tokens } of plan.admissions) {
      const request = this.#requestOf(id);
      const pageTable: number[] = [];
      this.#rows.set(row, {
        generation,
        request,
        tokens: [...tokens],
        pageTable,
        numComputed: null,
        isFinished: false,
      });
      if (request.kind !== RequestKind.generate)
        this.outputs.set(id, new Int32Array(tokens.length).fill(POISON));
    }
    for (const { row, index, page } of plan.pageUpdates) {
      const state = this.#rows.get(row); // absent when the step that admitted the request never ran
      if (state !== undefined) state.pageTable[index] = page;
    }
    return { step: plan.step, entries: plan.entries.map((entry) => this.#run(entry, breaks(entry))) };
  }

  /** The step never ran: its rows compute nothing from here on. */
  skip(plan: StepPlan): void {
    for (const { row, generation } of plan.entries) {
      const state = this.#rows.get(row);
      if (state?.generation === generation) state.isFinished = true;
    }
  }

  #run(entry: PlanEntry, isBroken: boolean): EntryResult {
    const { row, generation } = entry;
    const state = this.#rows.get(row);
    if (state === undefined || state.generation !== generation || state.isFinished) {
      return { row, generation, token: -1, further: [], finish: Finish.skipped };
    }
    if (isBroken) {
      state.isFinished = true;
      return { row, generation, token: -1, further: [], finish: Finish.numericError };
    }
    const reads = this.#compute(state, entry);
    if (!entry.samples) return { row, generation, token: -1, further: [], finish: Finish.none };
    const sampled: number[] = [];
    let finish: number = Finish.none;
    for (const read of reads) {
      const token = this.#draw(read);
      const guess = entry.drafts[sampled.length];
      sampled.push(token);
      finish = this.#append(state, token);
      if (finish !== Finish.none || guess !== token) break;
    }
    const [token = -1, ...further] = sampled;
    state.numComputed = state.tokens.length - 1;
    return { row, generation, token, further, finish };
  }

  #append(state: Row, token: number): number {
    state.tokens.push(token);
    const numGenerated = state.tokens.length - state.request.promptTokens.length;
    const isLast = numGenerated >= state.request.maxTokens;
    const finish = isStop(state.request, token) ? Finish.stop : isLast ? Finish.length : Finish.none;
    state.isFinished = finish !== Finish.none;
    return finish;
  }

  /** What has been read after each position behind which a token is sampled. */
  #compute(state: Row, { id, start, count, samples, drafts }: PlanEntry): number[] {
    const end = start + count;
    const knownEnd = end - drafts.length;
    if (state.numComputed !== null && state.numComputed !== start) {
      throw new Error(
        `request ${id} computed ${state.numComputed} positions, the next entry starts at ${start}`,
      );
    }
    const isAtEnd = knownEnd === state.tokens.length;
    if (
      knownEnd > state.tokens.length ||
      samples !== (isAtEnd && state.request.kind === RequestKind.generate)
    ) {
      throw new Error(`request ${id}: ${start}+${count} samples=${samples}, history ${state.tokens.length}`);
    }
    const salt = saltWord(state.request.salt);
    const output = this.outputs.get(id);
    const history = [...state.tokens.slice(0, knownEnd), ...drafts];
    const reads: number[] = [];
    let read = 0;
    for (let position = 0; position < end; position += 1) {
      const slot = this.#slotOf(state, id, position);
      if (position >= start) {
        const value = valueAt(salt, history[position] ?? 0, position, read);
        this.#slots[slot] = value;
        if (output !== undefined) output[position] = value;
      }
      read = mix(read, this.#slots[slot] ?? POISON);
      if (position >= knownEnd - 1) reads.push(read);
    }
    state.numComputed = knownEnd;
    return reads;
  }

  #slotOf(state: Row, id: number, position: number): number {
    const page = state.pageTable[Math.floor(position / Limits.pageSize)];
    if (page === undefined) throw new Error(`request ${id} has no page for position ${position}`);
    return page * Limits.pageSize + (position % Limits.pageSize);
  }
}
