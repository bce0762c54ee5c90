import type { EngineStats, ModelStats } from '../../lib/engine/stats-types';
import type {
  ChatMessage,
  Engine,
  GenerateEvent,
  GenerateOptions,
  GenerateResult,
  Generation,
  Model,
  TokenLogprob,
  Usage,
} from '../../lib/engine/types';
import { AutoglmError } from '../../lib/errors';

/** What a scripted model does with one call; `beforeToken` may wait or throw. */
export interface Script {
  readonly tokens: readonly string[];
  readonly finishReason?: 'stop' | 'length';
  readonly beforeToken?: (index: number, signal: AbortSignal) => Promise<void> | void;
  readonly warnings?: readonly { readonly code: string; readonly message: string }[];
}

const MAX_UNREAD_TOKENS = 1_024;

export interface SeenCall {
  readonly options: GenerateOptions;
  /** Which phase the call was in when it ended; `running` until then. */
  outcome: 'running' | 'finished' | 'aborted' | 'failed';
  numTokensMade: number;
  /** Somebody waits for the whole result, for which a real engine stops pausing. */
  isResultAwaited: boolean;
}

const unavailable = (): never => {
  throw new Error('the scripted engine has no such method');
};

function scriptedLogprob(text: string, numAlternatives: number): TokenLogprob {
  const entry = (token: string, i: number) => ({
    token: i,
    text: token,
    bytes: [...Buffer.from(token)],
    logprob: -0.5 - i,
  });
  return {
    ...entry(text, 0),
    top: Array.from({ length: numAlternatives }, (_, i) => entry(i === 0 ? text : `${text}~${i}`, i)),
  };
}

/** Plays scripts through the public engine interface: same events, same errors, no model. */
export class ScriptedModel implements Model {
  readonly seen: SeenCall[] = [];
  script: (options: GenerateOptions, index: number) => Script = () => ({ tokens: ['Hello', ',', ' world'] });

  constructor(
    readonly id: string,
    readonly contextLength = 2_048,
  ) {}

  get info(): Model['info'] {
    return {
      source: this.id,
      files: [],
      resolution: [],
      family: 'llama',
      name: this.id,
      format: 'gguf',
      contextLength: this.contextLength,
      modelContextLength: this.contextLength,
      vocabSize: 100,
      numParameters: 1,
      isFromCache: false,
      weightBytes: 1,
      gpuLayers: 0,
      layerPlacement: [],
      kvBytes: 1,
      scratchBytes: 1,
      kvBytesPerToken: 1,
      draftModel: null,
      precision: 'fast',
      layouts: {},
      hasChatTemplate: true,
      chat: { dialect: null, takesTools: false, reasons: false },
      tasks: ['generate'],
      embeddingSize: null,
      labels: [],
      eosTokens: [0],
      warnings: [],
    };
  }

  get numRunning(): number {
    return this.seen.filter((call) => call.outcome === 'running').length;
  }

  generate(input: string | GenerateOptions): Generation {
    const options: GenerateOptions = typeof input === 'string' ? { prompt: input } : input;
    const call: SeenCall = { options, outcome: 'running', numTokensMade: 0, isResultAwaited: false };
    this.seen.push(call);
    return new ScriptedGeneration(call, this.script(options, this.seen.length - 1));
  }

  async embed(): Promise<never> {
    throw this.#cannot('embed');
  }

  async classify(): Promise<never> {
    throw this.#cannot('classify');
  }

  async rerank(): Promise<never> {
    throw this.#cannot('rerank');
  }

  #cannot(task: string): AutoglmError {
    return new AutoglmError('unsupported_model', `the model ${this.id} cannot ${task}`);
  }

  async stats(): Promise<ModelStats> {
    return {
      numRunning: this.numRunning,
      numWaiting: 0,
      numQueuedTokens: 0,
      numFreePages: 6,
      numCachedPages: 1,
      numPages: 10,
      numPreemptions: 2,
      prefixQueryTokens: 40,
      prefixHitTokens: 16,
      promptTokens: 50,
      generatedTokens: 30,
      draftedTokens: 9,
      acceptedTokens: 6,
      steps: 12,
      lastStepAgeMs: 5,
      tuning: null,
      adapters: [],
    };
  }

  tokenize = unavailable;
  detokenize = unavailable;
  countTokens = unavailable;
  renderPrompt = unavailable as (messages: readonly ChatMessage[]) => never;
  logits = unavailable;
  score = unavailable;
  adapters: Model['adapters'] = [];
  loadAdapter = unavailable;
  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

class ScriptedGeneration implements Generation {
  readonly #result: Promise<GenerateResult>;
  readonly #events: GenerateEvent[] = [];
  #wake: () => void = () => {};
  #numRead = 0;
  #onRead: () => void = () => {};
  #failure: unknown = null;
  #isDone = false;

  constructor(
    readonly call: SeenCall,
    readonly script: Script,
  ) {
    this.#result = this.#run();
    this.#result.catch(() => {});
  }

  get result(): Promise<GenerateResult> {
    this.call.isResultAwaited = true;
    this.#onRead();
    return this.#result;
  }

  // biome-ignore lint/suspicious/noThenProperty: a Generation is awaitable.
  then: Generation['then'] = (onResult, onError) => this.result.then(onResult, onError);

  get textStream(): AsyncIterable<string> {
    return unavailable();
  }

  abort(): void {
    unavailable();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<GenerateEvent> {
    for (let i = 0; ; i += 1) {
      while (i >= this.#events.length && !this.#isDone)
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      const event = this.#events[i];
      if (event === undefined) {
        if (this.#failure !== null) throw this.#failure;
        return;
      }
      this.#numRead = i;
      this.#onRead();
      yield event;
    }
  }

  /** Waits while nobody reads on, as the real engine does, unless somebody waits for the whole result. */
  async #untilRead(numEvents: number): Promise<void> {
    while (this.#numRead < numEvents && !this.call.isResultAwaited)
      await new Promise<void>((resolve) => {
        this.#onRead = resolve;
      });
  }

  #emit(event: GenerateEvent): void {
    this.#events.push(event);
    this.#wake();
  }

  async #run(): Promise<GenerateResult> {
    const signal = this.call.options.signal ?? new AbortController().signal;
    try {
      const result = await this.#play(signal);
      this.call.outcome = 'finished';
      return result;
    } catch (error) {
      this.#failure = signal.aborted
        ? new AutoglmError('aborted', 'the generation was aborted', { cause: signal.reason })
        : error;
      this.call.outcome = signal.aborted ? 'aborted' : 'failed';
      throw this.#failure;
    } finally {
      this.#isDone = true;
      this.#wake();
    }
  }

  async #play(signal: AbortSignal): Promise<GenerateResult> {
    const { options } = this.call;
    const { tokens, beforeToken, finishReason = 'stop', warnings = [] } = this.script;
    for (const warning of warnings) this.#emit({ type: 'warning', warning });
    const logprobs: TokenLogprob[] = [];
    for (const [i, text] of tokens.entries()) {
      await untilAborted(signal, this.#untilRead(i - MAX_UNREAD_TOKENS));
      await untilAborted(signal, Promise.resolve(beforeToken?.(i, signal)));
      const own = options.logprobs === undefined ? [] : [scriptedLogprob(text, options.logprobs)];
      logprobs.push(...own);
      this.#emit({ type: 'text', text, tokens: [i], ...(own.length === 0 ? {} : { logprobs: own }) });
      this.call.numTokensMade += 1;
    }
    const usage: Usage = {
      promptTokens: 9,
      completionTokens: tokens.length,
      reasoningTokens: 0,
      cachedTokens: 4,
      draftedTokens: 0,
      acceptedTokens: 0,
    };
    const timings = { queueMs: 1, prefillMs: 2, ttftMs: 3, decodeMs: 4, totalMs: 7, tokensPerSecond: 100 };
    this.#emit({ type: 'finish', finishReason, usage, timings });
    return {
      text: tokens.join(''),
      reasoning: '',
      toolCalls: [],
      tokens: tokens.map((_, i) => i),
      ...(options.logprobs === undefined ? {} : { logprobs }),
      finishReason,
      usage,
      timings,
      warnings,
      sampling: {
        temperature: 1,
        topK: 0,
        topP: 1,
        minP: 0,
        repetitionPenalty: 1,
        presencePenalty: 0,
        frequencyPenalty: 0,
        seed: 0,
      },
    };
  }
}

async function untilAborted<Value>(signal: AbortSignal, work: Promise<Value>): Promise<Value> {
  let onAbort: () => void = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

export class ScriptedEngine implements Engine {
  readonly models: ScriptedModel[];
  readonly threads = 1;
  readonly binary: Engine['binary'] = {
    path: 'none',
    variant: 'cpu',
    gpu: null,
    gpus: [],
    isa: 'scripted',
    supportedIsas: [],
    abiVersion: 1,
    candidates: [],
  };
  readStats: (() => Promise<EngineStats>) | null = null;

  constructor(...ids: readonly string[]) {
    this.models = (ids.length === 0 ? ['tiny'] : ids).map((id) => new ScriptedModel(id));
  }

  get model(): ScriptedModel {
    return this.models[0] as ScriptedModel;
  }

  async stats(): Promise<EngineStats> {
    if (this.readStats !== null) return this.readStats();
    const stats = await Promise.all(
      this.models.map(async (model) => [model.id, await model.stats()] as const),
    );
    return { threads: 1, models: Object.fromEntries(stats) };
  }

  loadModel = unavailable;
  async close(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** A promise that the test settles. */
export function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
