import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ModelStats } from '../engine/stats-types';
import type { Engine, GenerateResult } from '../engine/types';

/**
 * The server's metrics. Each engine metric exists twice: `open_autoglm_*` is ours, and a `vllm:` alias under the name
 * that dashboards and routers for other engines already ask for. Buckets follow the aliases' originals.
 */
const LABELS = ['model_name', 'engine'] as const;
/** One engine per server; the label is there because dashboards select on it. */
const ENGINE = '0';
const PREFIXES = ['open_autoglm_', 'vllm:'] as const;

const FIRST_TOKEN_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
  2560,
];
const TOKEN_SECONDS = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const REQUEST_SECONDS = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];
const TOKEN_COUNTS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
];
const CHOICE_COUNTS = [1, 2, 5, 10, 20];

/** Read from the engine at each scrape. */
const GAUGES: readonly {
  readonly name: string;
  readonly help: string;
  readonly read: (stats: ModelStats) => number;
}[] = [
  { name: 'num_requests_running', help: 'Requests being computed.', read: (stats) => stats.numRunning },
  { name: 'num_requests_waiting', help: 'Requests in the queue.', read: (stats) => stats.numWaiting },
  {
    name: 'kv_cache_usage_perc',
    help: 'Share of KV pages in use by requests, 0..1.',
    read: (stats) =>
      stats.numPages === 0
        ? 0
        : (stats.numPages - stats.numFreePages - stats.numCachedPages) / stats.numPages,
  },
];
const COUNTERS: typeof GAUGES = [
  { name: 'prompt_tokens_total', help: 'Prompt tokens taken in.', read: (stats) => stats.promptTokens },
  { name: 'generation_tokens_total', help: 'Tokens generated.', read: (stats) => stats.generatedTokens },
  {
    name: 'num_preemptions_total',
    help: 'Requests set back for lack of KV pages.',
    read: (stats) => stats.numPreemptions,
  },
  {
    name: 'prefix_cache_queries_total',
    help: 'Prompt tokens looked up in the prefix cache.',
    read: (stats) => stats.prefixQueryTokens,
  },
  {
    name: 'prefix_cache_hits_total',
    help: 'Prompt tokens found in the prefix cache.',
    read: (stats) => stats.prefixHitTokens,
  },
  {
    name: 'spec_decode_num_draft_tokens_total',
    help: 'Tokens guessed by speculation.',
    read: (stats) => stats.draftedTokens,
  },
  {
    name: 'spec_decode_num_accepted_tokens_total',
    help: 'Guessed tokens that were right.',
    read: (stats) => stats.acceptedTokens,
  },
];
/** Ours only: other engines have no such number. */
const OWN_GAUGES: typeof GAUGES = [
  {
    name: 'open_autoglm_queued_tokens',
    help: 'Prompt tokens in the queue.',
    read: (stats) => stats.numQueuedTokens,
  },
  { name: 'open_autoglm_kv_pages', help: 'KV pages of the pool.', read: (stats) => stats.numPages },
  {
    name: 'open_autoglm_kv_pages_free',
    help: 'KV pages that hold nothing.',
    read: (stats) => stats.numFreePages,
  },
  {
    name: 'open_autoglm_kv_pages_cached',
    help: 'KV pages only the prefix cache holds.',
    read: (stats) => stats.numCachedPages,
  },
];

type FinishedAnswer = Pick<GenerateResult, 'usage' | 'timings' | 'finishReason'>;
type Labels = (typeof LABELS)[number];

/** One histogram under each prefix, fed together. */
class PairedHistogram {
  readonly #histograms: readonly Histogram<Labels>[];

  constructor(registry: Registry, name: string, help: string, buckets: number[]) {
    this.#histograms = PREFIXES.map(
      (prefix) =>
        new Histogram({ name: prefix + name, help, buckets, labelNames: LABELS, registers: [registry] }),
    );
  }

  observe(modelName: string, value: number): void {
    for (const histogram of this.#histograms)
      histogram.observe({ model_name: modelName, engine: ENGINE }, value);
  }
}

export class ServerMetrics {
  readonly #registry = new Registry();
  readonly #engine: Engine;
  readonly #gauges: readonly {
    readonly gauge: Gauge<Labels>;
    readonly read: (stats: ModelStats) => number;
  }[];
  readonly #counters: readonly {
    readonly counter: Counter<Labels>;
    readonly read: (stats: ModelStats) => number;
  }[];
  readonly #finished: readonly Counter<Labels | 'finished_reason'>[];
  readonly #errors: Counter<'code'>;
  readonly #http: Histogram<'route' | 'status'>;
  readonly #ttft = this.#paired(
    'time_to_first_token_seconds',
    'From the call to the first token.',
    FIRST_TOKEN_SECONDS,
  );
  readonly #interToken = this.#paired(
    'inter_token_latency_seconds',
    'Between two pieces of a stream.',
    TOKEN_SECONDS,
  );
  readonly #perToken = this.#paired(
    'request_time_per_output_token_seconds',
    'Decode time of a request over its tokens.',
    TOKEN_SECONDS,
  );
  readonly #total = this.#paired(
    'e2e_request_latency_seconds',
    'From the call to the last token.',
    REQUEST_SECONDS,
  );
  readonly #queue = this.#paired('request_queue_time_seconds', 'Time in the queue.', REQUEST_SECONDS);
  readonly #inference = this.#paired(
    'request_inference_time_seconds',
    'Prefill and decode.',
    REQUEST_SECONDS,
  );
  readonly #prefill = this.#paired('request_prefill_time_seconds', 'Prefill.', REQUEST_SECONDS);
  readonly #decode = this.#paired('request_decode_time_seconds', 'Decode.', REQUEST_SECONDS);
  readonly #promptTokens = this.#paired('request_prompt_tokens', 'Prompt tokens of a request.', TOKEN_COUNTS);
  readonly #newTokens = this.#paired('request_generation_tokens', 'New tokens of a request.', TOKEN_COUNTS);
  readonly #choices = this.#paired('request_params_n', 'n of a request.', CHOICE_COUNTS);
  readonly #maxTokens = this.#paired('request_params_max_tokens', 'max_tokens of a request.', TOKEN_COUNTS);

  constructor(engine: Engine) {
    this.#engine = engine;
    const registers = [this.#registry];
    const gauge = (name: string, help: string, read: (stats: ModelStats) => number) => ({
      gauge: new Gauge({ name, help, labelNames: LABELS, registers }),
      read,
    });
    this.#gauges = [
      ...PREFIXES.flatMap((prefix) => GAUGES.map(({ name, help, read }) => gauge(prefix + name, help, read))),
      ...OWN_GAUGES.map(({ name, help, read }) => gauge(name, help, read)),
    ];
    this.#counters = PREFIXES.flatMap((prefix) =>
      COUNTERS.map(({ name, help, read }) => ({
        counter: new Counter({ name: prefix + name, help, labelNames: LABELS, registers }),
        read,
      })),
    );
    this.#finished = PREFIXES.map(
      (prefix) =>
        new Counter({
          name: `${prefix}request_success_total`,
          help: 'Requests answered in full, by finish reason.',
          labelNames: [...LABELS, 'finished_reason'],
          registers,
        }),
    );
    this.#errors = new Counter({
      name: 'open_autoglm_request_errors_total',
      help: 'Requests that ended with an error, by code.',
      labelNames: ['code'],
      registers,
    });
    this.#http = new Histogram({
      name: 'open_autoglm_http_request_duration_seconds',
      help: 'From the request to its last byte.',
      buckets: REQUEST_SECONDS,
      labelNames: ['route', 'status'],
      registers,
    });
  }

  #paired(name: string, help: string, buckets: number[]): PairedHistogram {
    return new PairedHistogram(this.#registry, name, help, buckets);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Prometheus text, with the engine's counts as of now. */
  async render(): Promise<string> {
    const { models } = await this.#engine.stats();
    for (const { gauge } of this.#gauges) gauge.reset();
    for (const { counter } of this.#counters) counter.reset();
    for (const [modelName, stats] of Object.entries(models)) {
      const labels = { model_name: modelName, engine: ENGINE };
      for (const { gauge, read } of this.#gauges) gauge.set(labels, read(stats));
      for (const { counter, read } of this.#counters) counter.inc(labels, read(stats));
    }
    return this.#registry.metrics();
  }

  observeRequest(modelName: string, numChoices: number, maxTokens: number | undefined): void {
    this.#choices.observe(modelName, numChoices);
    if (maxTokens !== undefined) this.#maxTokens.observe(modelName, maxTokens);
  }

  observeInterTokenLatency(modelName: string, milliseconds: number): void {
    this.#interToken.observe(modelName, milliseconds / 1000);
  }

  observeFinish(modelName: string, { usage, timings, finishReason }: FinishedAnswer): void {
    for (const counter of this.#finished)
      counter.inc({ model_name: modelName, engine: ENGINE, finished_reason: finishReason });
    this.#ttft.observe(modelName, timings.ttftMs / 1000);
    this.#total.observe(modelName, timings.totalMs / 1000);
    this.#queue.observe(modelName, timings.queueMs / 1000);
    this.#inference.observe(modelName, (timings.prefillMs + timings.decodeMs) / 1000);
    this.#prefill.observe(modelName, timings.prefillMs / 1000);
    this.#decode.observe(modelName, timings.decodeMs / 1000);
    if (usage.completionTokens > 1)
      this.#perToken.observe(modelName, timings.decodeMs / 1000 / (usage.completionTokens - 1));
    this.#promptTokens.observe(modelName, usage.promptTokens);
    this.#newTokens.observe(modelName, usage.completionTokens);
  }

  observeError(code: string): void {
    this.#errors.inc({ code });
  }

  observeHttp(route: string, status: number, milliseconds: number): void {
    this.#http.observe({ route, status: String(status) }, milliseconds / 1000);
  }
}
