import { cpus } from 'node:os';
import { describePlacement } from '../../engine/placed-layers';
import type { Engine, GenerateResult, Model, ModelInfo } from '../../engine/types';
import { formatBytes, formatFacts, formatTable } from '../figures';
import { Interrupt } from '../interrupt';
import { withModel } from '../open-model';
import type { ModelFlags } from '../options';
import { answer, answerJson, colors, note } from '../terminal';

export interface BenchFlags extends ModelFlags {
  readonly batches: readonly number[];
  readonly prompts: readonly number[];
  readonly newTokens: number;
  readonly repeat: number;
  readonly json?: boolean;
}

interface PrefillFigure {
  readonly promptTokens: number;
  readonly tokensPerSecond: number;
  /** From the call to the first token. */
  readonly ttftMs: number;
}

interface DecodeFigure {
  readonly batch: number;
  /** Of all requests together. */
  readonly tokensPerSecond: number;
}

export interface BenchReport {
  readonly model: Pick<ModelInfo, 'source' | 'family' | 'weightBytes' | 'gpuLayers' | 'layerPlacement'>;
  readonly machine: {
    readonly cpu: string;
    readonly isa: string;
    readonly threads: number;
    readonly node: string;
  };
  readonly settings: {
    readonly precision: string;
    readonly newTokens: number;
    readonly repeat: number;
  };
  readonly prefill: readonly PrefillFigure[];
  readonly decode: readonly DecodeFigure[];
}

/** Short, so that decoding is measured with little to attend to. */
const DECODE_PROMPT_TOKENS = 16;

/** Measures a model on this machine: prefill and time to first token by prompt length, decode by batch size. */
export async function bench(source: string, flags: BenchFlags): Promise<number> {
  const interrupt = new Interrupt();
  const { signal } = interrupt;
  // Each prompt is new to the model, and all requests of a batch run at once.
  const settings = { kvCache: { prefixCache: false }, maxConcurrency: Math.max(1, ...flags.batches) };
  try {
    const measure = (model: Model, engine: Engine): Promise<BenchReport> =>
      new Bench(model, engine, flags, signal).run();
    const report = await withModel(source, flags, signal, measure, settings);
    if (flags.json === true) answerJson(report);
    else show(report);
    return 0;
  } finally {
    interrupt.stop();
  }
}

class Bench {
  #numPrompts = 0;

  constructor(
    readonly model: Model,
    readonly engine: Engine,
    readonly flags: BenchFlags,
    readonly signal: AbortSignal,
  ) {}

  async run(): Promise<BenchReport> {
    const { model, engine, flags } = this;
    // The first run pays for pages that the system has yet to give.
    await this.#generate(DECODE_PROMPT_TOKENS, 8);
    const prefill: PrefillFigure[] = [];
    for (const promptTokens of flags.prompts) prefill.push(await this.#prefill(promptTokens));
    const decode: DecodeFigure[] = [];
    for (const batch of flags.batches) decode.push(await this.#decode(batch));
    const { source, family, weightBytes, gpuLayers, layerPlacement, precision } = model.info;
    const cpu = cpus()[0]?.model.trim() ?? 'unknown';
    return {
      model: { source, family, weightBytes, gpuLayers, layerPlacement },
      machine: { cpu, isa: engine.binary.isa, threads: engine.threads, node: process.version },
      settings: { precision, newTokens: flags.newTokens, repeat: flags.repeat },
      prefill,
      decode,
    };
  }

  async #prefill(promptTokens: number): Promise<PrefillFigure> {
    this.#tell(`prefill of ${promptTokens} tokens`);
    const results = await this.#repeat(() => this.#generate(promptTokens, 1));
    const speeds = results.map(({ timings }) => (promptTokens * 1000) / timings.prefillMs);
    const waits = results.map(({ timings }) => timings.ttftMs);
    return { promptTokens, tokensPerSecond: median(speeds), ttftMs: median(waits) };
  }

  async #decode(batch: number): Promise<DecodeFigure> {
    this.#tell(`decode at batch ${batch}`);
    const speeds = await this.#repeat(() => this.#decodeOnce(batch));
    return { batch, tokensPerSecond: median(speeds) };
  }

  /** Tokens after each request's first one, over the time from the first first token to the last token. */
  async #decodeOnce(batch: number): Promise<number> {
    const startedAt = performance.now();
    const requests = Array.from({ length: batch }, async () => {
      const calledAt = performance.now() - startedAt;
      const result = await this.#generate(DECODE_PROMPT_TOKENS, this.flags.newTokens);
      return { result, calledAt };
    });
    const ended = await Promise.all(requests);
    const firstMs = Math.min(...ended.map(({ result, calledAt }) => calledAt + result.timings.ttftMs));
    const lastMs = Math.max(...ended.map(({ result, calledAt }) => calledAt + result.timings.totalMs));
    const numTokens = ended.reduce((sum, { result }) => sum + result.usage.completionTokens - 1, 0);
    return (numTokens * 1000) / (lastMs - firstMs);
  }

  #generate(promptTokens: number, maxTokens: number): PromiseLike<GenerateResult> {
    const tokens = this.#prompt(promptTokens);
    return this.model.generate({ tokens, maxTokens, temperature: 0, ignoreEos: true, signal: this.signal });
  }

  /** Token ids without meaning: the arithmetic is the same. Each prompt differs from those before it. */
  #prompt(length: number): number[] {
    this.#numPrompts += 1;
    let state = this.#numPrompts;
    return Array.from({ length }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state % this.model.info.vocabSize;
    });
  }

  async #repeat<T>(measure: () => PromiseLike<T>): Promise<T[]> {
    const values: T[] = [];
    for (let i = 0; i < this.flags.repeat; i += 1) values.push(await measure());
    return values;
  }

  #tell(text: string): void {
    if (this.flags.quiet !== true) note(colors.dim(text));
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

function show({ model, machine, settings, prefill, decode }: BenchReport): void {
  const facts: [string, string][] = [
    ['model', `${model.source} (${model.family}, ${formatBytes(model.weightBytes)}, ${settings.precision})`],
    ...(model.gpuLayers === 0
      ? []
      : [['placement', describePlacement(model.layerPlacement)] as [string, string]]),
    ['machine', `${machine.cpu}, ${machine.isa}, ${machine.threads} threads, Node ${machine.node}`],
  ];
  answer(formatFacts(facts));
  const prompts = prefill.map(({ promptTokens, tokensPerSecond, ttftMs }) => [
    String(promptTokens),
    tokensPerSecond.toFixed(1),
    ttftMs.toFixed(1),
  ]);
  if (prompts.length > 0) {
    answer(`\n${formatTable(['PROMPT', 'PREFILL TOKENS/S', 'FIRST TOKEN MS'], prompts, [0, 1, 2])}`);
  }
  const batches = decode.map(({ batch, tokensPerSecond }) => [
    String(batch),
    tokensPerSecond.toFixed(1),
    (tokensPerSecond / batch).toFixed(1),
  ]);
  if (batches.length > 0) {
    answer(`\n${formatTable(['BATCH', 'DECODE TOKENS/S', 'PER REQUEST'], batches, [0, 1, 2])}`);
  }
}
