import { AutoglmError } from '../../errors';
import { RequestKind } from '../../native/abi';
import { monotonicMs } from '../clock';
import { MAX_UNREAD_TOKENS } from '../limits';
import { invalidParameter } from '../parameters';
import type {
  FinishReason,
  GenerateEvent,
  GenerateOptions,
  GenerateResult,
  Generation,
  TokenLogprob,
} from '../types';
import type { DeltaSink } from '../worker/deltas';
import type { LogprobRecord } from '../worker/step-result';
import { type AnswerSource, answerReader, type EncodedPrompt, reasoningEnd } from './answer-format';
import type { AnswerParts, AnswerReader } from './answer-reader';
import { type AnswerPiece, creditFor, EventLog, type EventLogOwner } from './event-log';
import {
  contextLengthExceeded,
  type ModelFacts,
  type ParsedGenerate,
  type PromptInput,
  parseGenerate,
} from './generate-options';
import { GenerationMeter } from './generation-meter';
import { ReasoningBudget } from './reasoning-budget';
import type { RequestTable } from './request-table';
import { textOf } from './text-stream';
import type { TokenSpeller } from './token-speller';

/** What a generation needs of its model. */
export interface GenerationHost extends AnswerSource {
  readonly facts: ModelFacts;
  readonly speller: TokenSpeller;
  readonly eosTokens: ReadonlySet<number>;
  readonly requests: RequestTable;
  /** Throws when the model is closed or its queue is full; otherwise the generation is pending until `left`. */
  enter(generation: TextGeneration): void;
  left(generation: TextGeneration): void;
  encode(input: PromptInput, signal: AbortSignal): Promise<EncodedPrompt>;
  /** Tokens of text that goes into the sequence as it is; control tokens in it are such. */
  encodeControl(text: string, signal: AbortSignal): Promise<Int32Array>;
  /** The number of a loaded adapter, 0 for null. Throws `model_not_found`. */
  adapterNumber(name: string | null): number;
}

/** What goes on after the reasoning was ended. */
interface Continuation {
  readonly tokens: Int32Array;
  readonly maxTokens: number;
}

/** Until a request that goes on is queued again. */
const RETRY_MS = 50;

/** The reader's credit is renewed when this many tokens have been taken since it was last told. */
const CREDIT_STEP = MAX_UNREAD_TOKENS / 4;

/**
 * One generation: prepares the prompt, submits the request, turns tokens into text and ends exactly once.
 * After an abort nothing is delivered, and it ends when its row and pages are back.
 */
export class TextGeneration implements Generation, DeltaSink, EventLogOwner {
  readonly #host: GenerationHost;
  readonly #meter = new GenerationMeter();
  readonly #result: Promise<GenerateResult>;
  readonly #preparation = new AbortController();
  #resolve: (result: GenerateResult) => void = () => {};
  #reject: (error: AutoglmError) => void = () => {};
  readonly #log = new EventLog(this);
  #options: ParsedGenerate | null = null;
  /** Null before submission. */
  #answer: AnswerReader | null = null;
  #stopTokens: ReadonlySet<number> = new Set();
  #stopString: string | null = null;
  /** Null before submission. */
  #requestId: number | null = null;
  #abortReason: { readonly cause: unknown } | null = null;
  #hasEnded = false;
  #adapter = 0;
  #numRead = 0;
  #maxTokens = 0;
  #budget: ReasoningBudget | null = null;
  /** Tokens of the request that reasoned, once another one goes on. */
  #numEarlierTokens = 0;
  /** A request that goes on and has not started yet. */
  #waiting: Continuation | null = null;
  #credit = creditFor(0);

  constructor(host: GenerationHost, input: string | GenerateOptions) {
    this.#host = host;
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#result.catch(() => {}); // whoever iterates hears of the failure there
    this.#run(input).catch((error: unknown) => this.#fail(error));
  }

  get result(): Promise<GenerateResult> {
    this.#log.awaitEnd();
    return this.#result;
  }

  get textStream(): AsyncIterable<string> {
    return { [Symbol.asyncIterator]: () => textOf(this[Symbol.asyncIterator]()) };
  }

  // biome-ignore lint/suspicious/noThenProperty: a generation can be awaited
  then<A = GenerateResult, B = never>(
    onFulfilled?: ((value: GenerateResult) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.result.then(onFulfilled, onRejected);
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<GenerateEvent> {
    return this.#log.reader();
  }

  abort(reason?: unknown): void {
    if (this.#hasEnded || this.#abortReason !== null) return;
    this.#abortReason = { cause: reason };
    this.#log.hold();
    this.#preparation.abort();
    if (this.#requestId !== null) this.#host.requests.abort(this.#requestId);
  }

  /** Ends at once, for a model or an engine that goes away. */
  fail(error: AutoglmError): void {
    this.#preparation.abort();
    this.#fail(error);
  }

  async #run(input: string | GenerateOptions): Promise<void> {
    this.#host.enter(this);
    const options = parseGenerate(input, this.#host.facts);
    this.#options = options;
    this.#adapter = this.#host.adapterNumber(options.adapter);
    if (!options.ignoreEos) this.#stopTokens = this.#host.eosTokens;
    options.signal?.addEventListener('abort', this.#onSignal, { once: true });
    if (options.signal?.aborted) this.#onSignal();
    const prompt = this.#abortReason === null ? await this.#encode(options) : null;
    if (this.#hasEnded) return;
    if (prompt === null || this.#abortReason !== null) this.#endAborted(monotonicMs());
    else this.#submit(options, prompt);
  }

  readonly #onSignal = (): void => this.abort(this.#options?.signal?.reason);

  /** Null after an abort. */
  async #encode({ input }: ParsedGenerate): Promise<EncodedPrompt | null> {
    try {
      return await this.#host.encode(input, this.#preparation.signal);
    } catch (error) {
      if (this.#abortReason !== null) return null;
      throw error;
    }
  }

  #submit(options: ParsedGenerate, prompt: EncodedPrompt): void {
    const { tokens } = prompt;
    const { contextLength } = this.#host.facts;
    if (tokens.length === 0) throw invalidParameter('the prompt', 'at least one token long', 'no tokens');
    if (tokens.length >= contextLength) throw contextLengthExceeded(tokens.length, contextLength);
    const deadline = options.timeout === null ? null : this.#meter.callAt + options.timeout;
    if (deadline !== null && deadline <= monotonicMs()) throw deadlinePassed(options.timeout);
    const left = contextLength - tokens.length;
    if (options.maxTokens !== null && options.maxTokens > left)
      this.#warnOfClampedLength(options.maxTokens, left);
    this.#meter.numPromptTokens = tokens.length;
    this.#maxTokens = Math.min(options.maxTokens ?? left, left);
    this.#answer = answerReader(this.#host, options, prompt);
    this.#warnOfStrictTools(options);
    this.#add(this.#answer.write(prompt.begun), null, null);
    if (options.reasoningBudget !== null) this.#budget = new ReasoningBudget(options.reasoningBudget, tokens);
    this.#request(options, tokens, this.#maxTokens);
  }

  #request(options: ParsedGenerate, tokens: Int32Array, maxTokens: number): void {
    const { sampling, numLogprobs, biasTokens, biasValues, priority, salt, timeout, speculation } = options;
    this.#requestId = this.#host.requests.submit(
      {
        tokens,
        priority,
        deadline: timeout === null ? null : this.#meter.callAt + timeout,
        salt,
        adapter: this.#adapter,
        credit: this.#requestCredit,
        outputLength: 0,
        settings: {
          kind: RequestKind.generate,
          maxTokens,
          sampling,
          numLogprobs,
          stopTokens: Int32Array.from(this.#stopTokens),
          biasTokens,
          biasValues,
          positions: new Int32Array(0),
          pooling: 0,
          secondSegment: 0,
          speculation,
        },
      },
      this,
    );
  }

  #warnOfClampedLength(maxTokens: number, left: number): void {
    this.#log.warn({
      code: 'max_tokens_clamped',
      message: `maxTokens is ${maxTokens}, but the context has room for ${left} tokens after the prompt`,
    });
  }

  #warnOfStrictTools({ input }: ParsedGenerate): void {
    if (input.kind !== 'messages') return;
    const strict = input.tools.tools.filter((tool) => tool.strict === true);
    if (strict.length === 0) return;
    this.#log.warn({
      code: 'strict_not_enforced',
      message: `nothing enforces the schemas of strict tools: check the arguments of ${strict.map(({ name }) => name).join(', ')}`,
    });
  }

  // DeltaSink: what the engine worker says of the request.

  started(at: number, cachedTokens: number): void {
    this.#waiting = null;
    this.#meter.started(at, cachedTokens);
  }

  token(at: number, token: number, logprobs: LogprobRecord | null): void {
    if (this.#hasEnded || this.#abortReason !== null) return;
    this.#meter.token(at, this.#answer?.isReasoning === true);
    const logprob = logprobs === null ? null : this.#host.speller.logprob(token, logprobs);
    // A head may have more rows than the vocabulary has tokens: such an id says nothing.
    const saysNothing = this.#stopTokens.has(token) || token >= this.#host.tokenTable.isSpecial.length;
    if (this.#answer === null || saysNothing) {
      this.#log.add([], token, logprob);
      return;
    }
    const parts = this.#answer.push(token);
    const isLast = this.#add(parts, token, logprob);
    if (isLast) this.#stopAt(at, parts.stop);
    else if (this.#answer.isReasoning && this.#budget?.spends(this.#meter.numReasoningTokens) === true)
      this.#endReasoning(this.#budget).catch((error: unknown) => this.#fail(error));
    else this.#holdWhileRead();
  }

  drafted(numDrafted: number, numAccepted: number): void {
    this.#meter.drafted(numDrafted, numAccepted);
  }

  finished(at: number, reason: 'stop' | 'length'): void {
    if (this.#abortReason !== null) {
      this.#endAborted(at);
      return;
    }
    const parts = this.#answer?.end();
    if (parts !== undefined) this.#add(parts, null, null);
    this.#stopString = parts?.stop ?? null;
    this.#finish(at, this.#stopString === null ? reason : 'stop');
  }

  /** Returns whether the answer ends here: with a stop string, or with the only call it may have. */
  #add({ pieces, stop }: AnswerParts, token: number | null, logprob: TokenLogprob | null): boolean {
    const input = this.#options?.input;
    const hasOneCall = input?.kind === 'messages' && !input.tools.isParallel;
    const firstCall = hasOneCall ? pieces.findIndex(({ type }) => type === 'tool-call') : -1;
    const kept: AnswerPiece[] = [];
    for (const piece of firstCall < 0 ? pieces : pieces.slice(0, firstCall + 1)) {
      if (piece.type === 'warning') this.#log.warn({ code: piece.code, message: piece.message });
      else kept.push(piece);
    }
    this.#log.add(kept, token, logprob);
    return stop !== null || firstCall >= 0;
  }

  /** Goes on with another request, whose prompt ends the reasoning in the model's name. */
  async #endReasoning(budget: ReasoningBudget): Promise<void> {
    if (this.#requestId !== null) this.#host.requests.abandon(this.#requestId);
    this.#requestId = null;
    const text = reasoningEnd(this.#host.chat);
    const closing = await this.#encodeClosing(text);
    if (this.#hasEnded) return;
    const { tokens: generated } = this.#log;
    const tokens = budget.continuation(generated, closing);
    const left = this.#host.facts.contextLength - tokens.length;
    const maxTokens = Math.min(this.#maxTokens - generated.length, left);
    if (this.#answer !== null) this.#add(this.#answer.write(text), null, null);
    if (this.#abortReason !== null || maxTokens <= 0) this.finished(monotonicMs(), 'length');
    else {
      this.#numEarlierTokens = generated.length;
      this.#continue({ tokens, maxTokens });
    }
  }

  async #encodeClosing(text: string): Promise<Int32Array> {
    try {
      return await this.#host.encodeControl(text, this.#preparation.signal);
    } catch (error) {
      if (this.#abortReason !== null) return new Int32Array(0);
      throw error;
    }
  }

  #continue(waiting: Continuation): void {
    this.#waiting = waiting;
    this.#request(this.#options as ParsedGenerate, waiting.tokens.slice(), waiting.maxTokens);
  }

  /** The answer has begun, so a queue that is full for the moment does not end it. */
  #continueLater(waiting: Continuation): void {
    this.#requestId = null;
    setTimeout(() => {
      if (this.#hasEnded) return;
      if (this.#abortReason !== null) this.#endAborted(monotonicMs());
      else this.#continue(waiting);
    }, RETRY_MS);
  }

  evaluated(): void {
    this.#fail(new AutoglmError('internal', 'a generation was evaluated'));
  }

  aborted(at: number): void {
    this.#endAborted(at);
  }

  failed(_at: number, error: AutoglmError): void {
    if (this.#waiting !== null && error.code === 'queue_full') this.#continueLater(this.#waiting);
    else this.#fail(error);
  }

  // EventLogOwner: what readers do.

  read(numTokens: number): void {
    this.#numRead = numTokens;
    const credit = Math.min(creditFor(numTokens), Number.MAX_SAFE_INTEGER);
    if (credit < this.#credit + CREDIT_STEP) return;
    this.#credit = credit;
    if (this.#requestId === null) return;
    this.#host.requests.credit(this.#requestId, this.#requestCredit);
    this.#holdWhileRead();
  }

  /** The tokens of earlier requests do not count against the one that runs. */
  get #requestCredit(): number {
    return Math.max(1, this.#credit - this.#numEarlierTokens);
  }

  async abandoned(): Promise<void> {
    this.abort('the reader left');
    await this.#result.catch(() => {});
  }

  /** An unread stream is paused in the engine worker; the process need not live for it. */
  #holdWhileRead(): void {
    if (this.#requestId === null) return;
    this.#host.requests.setHolding(
      this.#requestId,
      this.#log.tokens.length < this.#numRead + MAX_UNREAD_TOKENS,
    );
  }

  #stopAt(at: number, stop: string | null): void {
    this.#stopString = stop;
    if (this.#requestId !== null) this.#host.requests.abandon(this.#requestId);
    this.#finish(at, 'stop');
  }

  #finish(at: number, reason: Exclude<FinishReason, 'tool-calls'>): void {
    const { warnings, tokens, logprobs, text, reasoning, toolCalls } = this.#log;
    const usage = this.#meter.usage(tokens.length);
    const timings = this.#meter.timings(at, tokens.length);
    const isByCalls = reason === 'stop' && this.#stopString === null && toolCalls.length > 0;
    const finishReason: FinishReason = isByCalls ? 'tool-calls' : reason;
    this.#leave();
    this.#log.end({ finish: { type: 'finish', finishReason, usage, timings } });
    const { sampling, numLogprobs } = this.#options as ParsedGenerate;
    this.#resolve({
      text,
      reasoning,
      toolCalls,
      tokens,
      ...(numLogprobs >= 0 ? { logprobs } : {}),
      finishReason,
      ...(this.#stopString === null ? {} : { stopString: this.#stopString }),
      usage,
      timings,
      warnings,
      sampling,
    });
  }

  #endAborted(at: number): void {
    if (this.#options?.onAbort === 'partial') {
      this.#finish(at, 'abort');
      return;
    }
    const cause = this.#abortReason?.cause;
    this.#fail(
      new AutoglmError('aborted', 'the generation was aborted', cause === undefined ? {} : { cause }),
    );
  }

  #fail(cause: unknown): void {
    if (this.#hasEnded) return;
    const error = AutoglmError.is(cause) ? cause : new AutoglmError('internal', String(cause), { cause });
    this.#leave();
    this.#log.end({ error });
    this.#reject(error);
  }

  #leave(): void {
    this.#hasEnded = true;
    this.#options?.signal?.removeEventListener('abort', this.#onSignal);
    this.#host.left(this);
  }
}

function deadlinePassed(timeout: number | null): AutoglmError {
  return new AutoglmError(
    'deadline_exceeded',
    `the timeout of ${timeout} ms passed before the prompt was ready`,
  );
}
