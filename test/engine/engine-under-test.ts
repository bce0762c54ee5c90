import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine, GenerateOptions, LoadModelOptions, Model } from '../../lib/engine/types';

/** The built package: worker threads cannot start from TypeScript sources. */
export const PACKAGE = join(__dirname, '..', '..', 'dist', 'index.js');
const MODELS = join(__dirname, '..', 'fixtures', 'models');

/** Tiny models; vocabulary 384, context 512. */
export const Fixture = {
  float32: join(MODELS, 'llama-f32'),
  q4: join(MODELS, 'llama-q4_0.gguf'),
  q8: join(MODELS, 'qwen3-q8_0.gguf'),
  bf16: join(MODELS, 'glm4-bf16'),
} as const;

/** As stretchedFixture, but no token ends an answer: it goes on for minutes unless it is interrupted. */
export function endlessFixture(): string {
  const folder = stretchedFixture(32_768);
  for (const name of ['config.json', 'generation_config.json', 'tokenizer_config.json']) {
    const path = join(folder, name);
    const { eos_token_id: _id, eos_token: _text, ...rest } = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify(rest));
  }
  return folder;
}

/** A copy of the float32 fixture with a longer context; the caller removes the folder. */
export function stretchedFixture(contextLength = 4096): string {
  const folder = mkdtempSync(join(tmpdir(), 'autoglm-long-'));
  cpSync(Fixture.float32, folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as object;
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ ...config, max_position_embeddings: contextLength }),
  );
  return folder;
}

export const VOCAB_SIZE = 384;
/** Ids of plain text in the fixtures' vocabulary: special tokens come after them. */
const NUM_TEXT_TOKENS = 340;

type Package = typeof import('../../lib/index');
export const { AutoglmError, createEngine, loadModel } = createRequire(__filename)(PACKAGE) as Package;

/** Runs `body` with an engine of its own and closes it, also when `body` fails. */
export async function withEngine<T>(body: (engine: Engine) => Promise<T>, threads = 2): Promise<T> {
  const engine = await createEngine({ threads });
  try {
    return await body(engine);
  } finally {
    await engine.close();
  }
}

export async function withModel<T>(
  options: Partial<LoadModelOptions>,
  body: (model: Model, engine: Engine) => Promise<T>,
  threads = 2,
): Promise<T> {
  return withEngine(
    async (engine) => body(await engine.loadModel({ source: Fixture.float32, ...options }), engine),
    threads,
  );
}

/** Mulberry32: small, seeded, good enough to vary tests. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomTokens(length: number, random: () => number): number[] {
  return Array.from({ length }, () => Math.floor(random() * NUM_TEXT_TOKENS));
}

/** A request that says nothing of its own accord before `maxTokens`. */
export function endless(
  tokens: readonly number[],
  overrides: Partial<GenerateOptions> = {},
): GenerateOptions {
  return { tokens, ignoreEos: true, temperature: 0.9, seed: 11, ...overrides };
}

/** Everything that must not depend on the company: ids and log-probabilities, in full precision. */
export type Answer = readonly (readonly number[])[];

/** What a request that asks for log-probabilities gets. */
export async function answer(model: Model, request: GenerateOptions): Promise<Answer> {
  const { logprobs = [] } = await model.generate(request);
  return logprobs.map(({ token, logprob, top }) => [
    token,
    logprob,
    ...top.flatMap((each) => [each.token, each.logprob]),
  ]);
}

/** Repeats a scene until it came off: on a busy machine, requests that should meet may run one after the other. */
export async function repeatUntil(scene: () => Promise<boolean>): Promise<void> {
  for (let tries = 1; !(await scene()); tries += 1) {
    if (tries === 50) throw new Error(`did not come off in ${tries} tries`);
  }
}

/** `scene` again and again until it has preempted some request. */
export async function untilPreempted(model: Model, scene: () => Promise<void>): Promise<void> {
  await repeatUntil(async () => {
    await scene();
    return (await model.stats()).numPreemptions > 0;
  });
}

/** Waits until nothing runs or waits, then checks that every page is free or cached. */
export async function expectDrained(model: Model): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    const stats = await model.stats();
    const isIdle = stats.numRunning === 0 && stats.numWaiting === 0;
    if (isIdle && stats.numFreePages + stats.numCachedPages === stats.numPages) return;
    if (tries === 500) throw new Error(`not drained: ${JSON.stringify(stats)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
