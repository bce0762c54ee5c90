import type { Engine, GenerateOptions, LoadModelOptions, Model } from '../../lib/index';
import { answer, endless, Fixture, randomTokens, seededRandom } from '../engine/engine-under-test';

export const MIB = 2 ** 20;

/** Enough for the fixtures' prompts, little for the emulator. */
export const SMALL_SIZE = {
  contextLength: 176,
  kvCache: { memory: '2MiB' },
  maxStepTokens: 64,
  maxConcurrency: 8,
} as const;

/** Loads a model of SMALL_SIZE, but for `options`, and closes it behind `body`. */
export async function withModel<T>(
  engine: Engine,
  options: LoadModelOptions,
  body: (model: Model) => Promise<T>,
): Promise<T> {
  const model = await engine.loadModel({ ...SMALL_SIZE, ...options });
  try {
    return await body(model);
  } finally {
    await model.close();
  }
}

/** So biased that a draft model guesses right. */
export const PREDICTABLE = endless(randomTokens(20, seededRandom(3)), {
  maxTokens: 12,
  temperature: 0,
  logitBias: { 10: 60, 20: 60 },
});
export const DRAFTED = { mode: 'draft-model', draftModel: Fixture.q4, adaptive: false } as const;

export async function tokensOf(model: Model, request: GenerateOptions) {
  return (await answer(model, request)).map(([token]) => token);
}
