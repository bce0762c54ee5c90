import { AutoglmError } from '../../errors';
import { Limits, RequestKind } from '../../native/abi';
import type { ModelHandle, NativeAdapter, NativeAdapterRequest, NativeAddon } from '../../native/addon';
import { fromNativeError, nativeErrorCode } from '../../native/native-error';
import type { RequestId, SchedulerCore, SchedulerEvent } from '../../scheduler/types';
import { monotonicMs } from '../clock';
import { AdapterUse } from './adapter-use';
import { DeltaWriter } from './deltas';
import { draftRequest } from './draft-request';
import { draftSettings } from './draft-settings';
import type { NativeModel } from './model-loading';
import type { AdmittedRequest } from './plan-writer';
import type { EngineReport, RequestMessage, RequestSettings, RunnerStats } from './protocol';
import { prefixSalt, ropeTableOf } from './rope-choice';
import type { ResultBuffer } from './step-result';
import { type FinishedStep, SubmittedSteps } from './submitted-steps';

interface RunningRequest {
  readonly settings: RequestSettings;
  readonly numPromptTokens: number;
  readonly ropeTable: number;
  readonly adapter: number;
  /** Names the output buffer of an evaluation; 0 for `generate`. */
  readonly outputId: number;
  /** What the draft model is told of it; null without one. */
  readonly draft: AdmittedRequest | null;
  readonly output: Float32Array | null;
  numSent: number;
  credit: number;
  isPaused: boolean;
  hasStarted: boolean;
}

interface AppliedStep {
  readonly events: readonly SchedulerEvent[];
  readonly kept: ResultBuffer | null;
}

export interface ModelRunnerParts {
  readonly addon: NativeAddon;
  readonly target: NativeModel;
  /** Guesses for the target; null for none. */
  readonly draft: NativeModel | null;
  readonly core: SchedulerCore;
  readonly post: (report: EngineReport, transfer: ArrayBuffer[]) => void;
}

/**
 * Turns one model's scheduler: commands and finished steps go in, plans and deltas come out. Runs only when called;
 * the one timer is that of the next deadline.
 */
export class ModelRunner {
  readonly #parts: ModelRunnerParts;
  readonly #model: number;
  readonly #requests = new Map<number, RunningRequest>();
  readonly #inFlight: SubmittedSteps;
  /** Told by the addon, but not applied: more follow at once. */
  #finished: FinishedStep[] = [];
  readonly #deltas = new DeltaWriter();
  readonly #adapters = new AdapterUse();
  #unsubmitted: { readonly step: number; readonly message: string } | null = null;
  #numLogprobRequests = 0;
  #promptTokens = 0;
  #generatedTokens = 0;
  #lastStepAt: number | null = null;
  #deadline: { readonly at: number; readonly timer: NodeJS.Timeout } | null = null;
  #isFillScheduled = false;
  #isClosed = false;

  constructor(model: number, parts: ModelRunnerParts) {
    this.#model = model;
    this.#parts = parts;
    this.#inFlight = new SubmittedSteps(parts.addon, parts.target, parts.draft);
  }

  add(request: RequestMessage): void {
    const { core, target, draft } = this.#parts;
    const { id, settings, adapter } = request;
    const ropeTable = ropeTableOf(request, target.ropeSwitchLength);
    core.now = monotonicMs();
    try {
      this.#queue(request, ropeTable);
    } catch (error) {
      this.#deltas.failed(id, error);
      this.#fillSoon();
      return;
    }
    this.#requests.set(id, {
      settings,
      numPromptTokens: request.tokens.length,
      ropeTable,
      adapter,
      draft: draft === null ? null : draftRequest(request, draft),
      outputId: settings.kind === RequestKind.generate ? 0 : id,
      output: this.#prepareOutput(request),
      numSent: 0,
      credit: request.credit,
      isPaused: false,
      hasStarted: false,
    });
    if (settings.numLogprobs >= 0) this.#numLogprobRequests += 1;
    this.#fillSoon();
  }

  #queue({ id, settings, adapter, ...request }: RequestMessage, ropeTable: number): void {
    this.#adapters.enter(adapter);
    try {
      this.#parts.core.add({
        id: id as RequestId,
        kind: settings.kind,
        promptTokens: request.tokens,
        maxTokens: settings.maxTokens,
        priority: request.priority,
        deadline: request.deadline,
        salt: prefixSalt({ salt: request.salt, adapter }, ropeTable),
        drafts: draftSettings(settings.speculation),
      });
    } catch (error) {
      this.#adapters.leave(adapter);
      throw error;
    }
  }

  abort(id: number): void {
    this.#parts.core.now = monotonicMs();
    this.#parts.core.abort(id as RequestId);
    this.#fillSoon();
  }

  credit(id: number, credit: number): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    request.credit = credit;
    if (!request.isPaused || request.numSent >= credit) return;
    request.isPaused = false;
    this.#parts.core.now = monotonicMs();
    this.#parts.core.resume(id as RequestId);
    this.#fillSoon();
  }

  /**
   * The addon finished a step, and others behind it when it `hasMore`. Filling the queue again outranks telling anyone
   * about them.
   */
  stepFinished(handle: ModelHandle, slot: number, hasMore: boolean): void {
    if (this.#isClosed) return;
    this.#finished.push(this.#inFlight.finish(handle, slot));
    if (hasMore) return;
    const applied = this.#applyFinished();
    this.#failUnsubmitted();
    this.#fill();
    for (const { events, kept } of applied) this.#translate(events, kept);
    this.#report();
    this.#armDeadline();
  }

  /** Reads an adapter while steps go on. */
  async loadAdapter(request: NativeAdapterRequest): Promise<NativeAdapter> {
    const { addon, target } = this.#parts;
    const adapter = await addon.loadAdapter(target.handle, request).catch((error: unknown) => {
      throw fromNativeError(error);
    });
    this.#adapters.add(adapter.id);
    return adapter;
  }

  /** Refuses new requests at once; frees the adapter when those that use it have ended. */
  async unloadAdapter(adapter: number): Promise<null> {
    await this.#adapters.retire(adapter);
    const { addon, target } = this.#parts;
    await addon.unloadAdapter(target.handle, adapter).catch((error: unknown) => {
      throw fromNativeError(error);
    });
    return null;
  }

  stats(): RunnerStats {
    const { core } = this.#parts;
    return {
      ...core.stats(),
      promptTokens: this.#promptTokens,
      generatedTokens: this.#generatedTokens,
      lastStepAgeMs: this.#lastStepAt === null ? null : monotonicMs() - this.#lastStepAt,
      tuning: this.#parts.target.tuning?.stats() ?? null,
      adapterRequests: this.#adapters.numRequests,
    };
  }

  /** Drops every request without a word: the main thread has already told their callers. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#adapters.clear();
    clearTimeout(this.#deadline?.timer);
    const { addon, target, draft } = this.#parts;
    for (const model of [target, draft]) if (model !== null) await addon.closeModel(model.handle);
    this.#requests.clear();
    for (const model of [target, draft]) await model?.tuning?.close();
  }

  #prepareOutput(request: RequestMessage): Float32Array | null {
    if (request.settings.kind === RequestKind.generate) return null;
    const output = new Float32Array(request.outputLength);
    this.#parts.addon.setOutput(this.#parts.target.handle, request.id, output);
    return output;
  }

  /** Commands arrive in bursts, one message each; the plan waits for the end of the burst. */
  #fillSoon(): void {
    if (this.#isFillScheduled) return;
    this.#isFillScheduled = true;
    setImmediate(() => {
      this.#isFillScheduled = false;
      if (this.#isClosed) return;
      this.#turn();
    });
  }

  #turn(): void {
    this.#fill();
    this.#report();
    this.#armDeadline();
  }

  #fill(): void {
    const { core } = this.#parts;
    core.now = monotonicMs();
    while (this.#inFlight.length < Limits.queueDepth && this.#unsubmitted === null) {
      const plan = core.schedule();
      if (plan === null) return;
      try {
        this.#inFlight.submit(plan, (id, model) => this.#admitted(id, model));
      } catch (error) {
        this.#unsubmitted = { step: plan.step, message: fromNativeError(error).message };
        this.#failUnsubmitted();
      }
    }
  }

  /** Results are applied in the order of the plans, so a step that could not be submitted fails after those before it. */
  #failUnsubmitted(): void {
    if (this.#unsubmitted === null || this.#inFlight.length > 0 || this.#finished.length > 0) return;
    const { step, message } = this.#unsubmitted;
    this.#unsubmitted = null;
    this.#parts.core.applyFailure(step, message);
  }

  #admitted(id: number, model: NativeModel): AdmittedRequest {
    const request = this.#requests.get(id);
    const admitted = model === this.#parts.draft ? request?.draft : request;
    if (!admitted) throw new AutoglmError('internal', `the plan admits request ${id}, which has gone`);
    return admitted;
  }

  /** Steps that are told together ended one after the other, the last one now. */
  #applyFinished(): AppliedStep[] {
    const { core } = this.#parts;
    const finished = this.#finished;
    this.#finished = [];
    const now = monotonicMs();
    let later = finished.reduce((sum, { result }) => sum + result.elapsedMicros / 1_000, 0);
    this.#lastStepAt = now;
    return finished.map((step) => {
      const { plan, result } = step;
      later -= result.elapsedMicros / 1_000;
      core.now = Math.max(core.now, now - later);
      const kept = this.#numLogprobRequests > 0 && !plan.isDraft ? result.copy() : null;
      this.#apply(step);
      return { events: core.takeEvents(), kept };
    });
  }

  #apply({ plan, result, handle, slot }: FinishedStep): void {
    const { addon, core } = this.#parts;
    if (result.errorCode !== 0) {
      const what = `step ${plan.step} failed with ${nativeErrorCode(result.errorCode)}`;
      core.applyFailure(plan.step, `${what}: ${addon.stepFailure(handle, slot)}`);
      return;
    }
    core.apply(result.read(plan));
  }

  /** Of tokens, `kept` has the log-probabilities that somebody wants. */
  #translate(events: readonly SchedulerEvent[], kept: ResultBuffer | null): void {
    for (const event of events) this.#translateOne(event, kept);
  }

  #report(): void {
    this.#translate(this.#parts.core.takeEvents(), null);
    const taken = this.#deltas.take(this.#model, monotonicMs());
    if (taken !== null) this.#parts.post(taken.message, taken.transfer);
  }

  #translateOne(event: SchedulerEvent, kept: ResultBuffer | null): void {
    const { id } = event;
    const request = this.#requests.get(id);
    if (request === undefined) return;
    switch (event.type) {
      case 'started':
        if (request.hasStarted) return;
        request.hasStarted = true;
        this.#promptTokens += request.numPromptTokens;
        this.#deltas.started(id, event.cachedTokens);
        return;
      case 'token': {
        const wantsLogprobs = request.settings.numLogprobs >= 0 && kept !== null;
        this.#deltas.token(id, event.token, wantsLogprobs ? kept.logprobs(event.resultRow) : null);
        this.#generatedTokens += 1;
        this.#spendCredit(event.id, request);
        return;
      }
      case 'drafted':
        this.#deltas.drafted(id, event.numDrafted, event.numAccepted);
        return;
      case 'finished':
        this.#forget(id, request);
        if (event.reason !== 'evaluated') this.#deltas.finished(id, event.reason);
        else this.#deltas.evaluated(id, request.output ?? new Float32Array(0));
        return;
      case 'failed':
        this.#forget(id, request);
        this.#deltas.failed(id, new AutoglmError(event.code, event.message));
        return;
      case 'aborted':
        this.#forget(id, request);
        this.#deltas.aborted(id);
        return;
      case 'prefilled':
      case 'preempted':
        return;
    }
  }

  /** A reader that does not keep up holds its own request, nothing else. */
  #spendCredit(id: RequestId, request: RunningRequest): void {
    request.numSent += 1;
    if (request.isPaused || request.numSent < request.credit) return;
    request.isPaused = true;
    this.#parts.core.pause(id);
  }

  #forget(id: number, request: RunningRequest): void {
    this.#requests.delete(id);
    this.#adapters.leave(request.adapter);
    if (request.settings.numLogprobs >= 0) this.#numLogprobRequests -= 1;
    if (request.output !== null)
      this.#parts.addon.setOutput(this.#parts.target.handle, request.outputId, null);
  }

  #armDeadline(): void {
    const at = this.#parts.core.nextWakeup();
    if (at === (this.#deadline?.at ?? null)) return;
    clearTimeout(this.#deadline?.timer);
    this.#deadline = null;
    if (at === null) return;
    const delay = Math.max(0, Math.ceil(at - monotonicMs()));
    const timer = setTimeout(
      () => {
        this.#deadline = null;
        this.#turn();
      },
      Math.min(delay, MAX_TIMER_MS),
    );
    this.#deadline = { at, timer };
  }
}

/** Longer timers fire at once in Node; the runner looks again when this one fires. */
const MAX_TIMER_MS = 2 ** 31 - 1;
