import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, GenerateOptions, LoadModelOptions, Model, PlacedLayers } from '../../lib/index';
import {
  answer,
  createEngine,
  endless,
  Fixture,
  randomTokens,
  seededRandom,
} from '../engine/engine-under-test';
import { ADAPTERS, fixturePath } from '../parity/fixtures';
import { CUDA_BINARY, FAKE_DRIVER, useFakeDriver } from './cuda-binary';
import { expectReferenceLogits } from './reference-logits';
import { DRAFTED, MIB, PREDICTABLE, SMALL_SIZE, tokensOf, withModel } from './small-model';

// Goal: layers on several GPUs compute what they compute on one, are where they are said to be, and are refused with the
// figures of each GPU. Method: three devices of the fake driver with 96 MiB each.

let engine: Engine; // as many as a model needs
let listed: Engine; // the last and the first
let single: Engine;
beforeAll(async () => {
  useFakeDriver(`num_devices=3,total_memory=${96 * MIB}`);
  engine = await createEngine({ device: 'cuda', threads: 1 });
  listed = await createEngine({ device: 'cuda:2,0', threads: 1 });
  single = await createEngine({ device: 'cuda:1', threads: 1 });
});
afterAll(() => Promise.all([engine, listed, single].map((each) => each.close())));

const placementOf = (on: Engine, options: LoadModelOptions): Promise<readonly PlacedLayers[]> =>
  withModel(on, options, async ({ info }) => info.layerPlacement);

const layers = (device: PlacedLayers['device'], firstLayer: number, numLayers: number): PlacedLayers => ({
  device,
  firstLayer,
  numLayers,
});

test('the engine says which GPUs it may use, in the order of the layers', () => {
  const indicesOf = ({ binary }: Engine) => binary.gpus.map(({ index }) => index);
  expect(indicesOf(engine)).toEqual([0, 1, 2]);
  expect(indicesOf(listed)).toEqual([2, 0]);
  expect(indicesOf(single)).toEqual([1]);
  expect(listed.binary.gpu).toEqual(listed.binary.gpus[0]);
});

describe('a model is', () => {
  test('on the first GPU alone where it fits', async () => {
    expect(await placementOf(engine, { source: Fixture.q4 })).toEqual([layers('cuda:0', 0, 2)]);
    expect(await placementOf(single, { source: Fixture.q4 })).toEqual([layers('cuda:1', 0, 2)]);
  });

  test('on as many as it needs where it does not, and computes what its reference does', async () => {
    const large = { source: Fixture.q4, kvCache: { memory: '100MiB' } };
    await withModel(engine, large, async (model) => {
      expect(model.info.layerPlacement).toEqual([layers('cuda:0', 0, 1), layers('cuda:1', 1, 1)]);
      expect(model.info.gpuLayers).toBe(2);
      await expectReferenceLogits(model, 'llama-q4_0');
    });
  });

  test('on each GPU that is listed', async () => {
    expect(await placementOf(listed, { source: Fixture.q4 })).toEqual([
      layers('cuda:2', 0, 1),
      layers('cuda:0', 1, 1),
    ]);
  });

  test.each(['gemma3-bf16', 'glm4-moe-bf16'])('behind layers of the processor: %s', async (name) => {
    await withModel(listed, { source: fixturePath(name), gpuLayers: 2 }, async (model) => {
      const last = model.info.layerPlacement.at(-1)?.firstLayer ?? 0;
      expect(last).toBeGreaterThan(1);
      expect(model.info.layerPlacement).toEqual([
        layers('cpu', 0, last - 1),
        layers('cuda:2', last - 1, 1),
        layers('cuda:0', last, 1),
      ]);
      await expectReferenceLogits(model, name);
    });
  });
});

describe('on two GPUs as on one', () => {
  const requests = [3, 20, 40].map((length, seed) =>
    endless(randomTokens(length, seededRandom(seed)), {
      maxTokens: 6,
      seed,
      temperature: seed === 0 ? 0 : 0.8,
      logprobs: 2,
    }),
  );
  /** Together, then one by one. */
  const answersOf = async (model: Model) => [
    await Promise.all(requests.map((request) => answer(model, request))),
    await answer(model, requests[1] as (typeof requests)[number]),
  ];

  test('requests get the same tokens and log-probabilities', async () => {
    const expected = await withModel(single, { source: Fixture.q4 }, answersOf);
    expect(await withModel(listed, { source: Fixture.q4 }, answersOf)).toEqual(expected);
  });

  test('an adapter adds the same to the layers of each', async () => {
    const [request] = requests.slice(1) as [(typeof requests)[number]];
    const answersWith = async (model: Model) => {
      const adapter = await model.loadAdapter({ source: join(ADAPTERS, 'llama-patterns'), name: 'patterns' });
      const found = await answer(model, { ...request, adapter: 'patterns' });
      await adapter.close();
      return [found, await answer(model, request)];
    };
    const [expected, plain] = await withModel(single, { source: Fixture.float32 }, answersWith);
    expect(expected).not.toEqual(plain);
    expect(await withModel(listed, { source: Fixture.float32 }, answersWith)).toEqual([expected, plain]);
  });

  test('a draft model on the last one guesses', async () => {
    const predicted = (model: Model) => tokensOf(model, PREDICTABLE);
    const expected = await withModel(single, { source: Fixture.q4 }, predicted);
    await withModel(listed, { source: Fixture.q4, speculation: DRAFTED }, async (model) => {
      const [, onFirst = 0, onLast = 0] = [1, 2, 0].map(takenOn);
      expect(onLast).toBeGreaterThan(onFirst + MIB);
      expect(await predicted(model)).toEqual(expected);
      expect((await model.stats()).acceptedTokens).toBeGreaterThan(0);
    });
  });

  test('texts get the same vectors', async () => {
    const source = join(__dirname, '..', 'fixtures', 'encoders', 'models', 'qwen3-embed');
    const embed = async (model: Model) => (await model.embed(['a short text', 'another'])).embeddings;
    expect(await withModel(listed, { source }, embed)).toEqual(await withModel(single, { source }, embed));
  });
});

/** Bytes of a GPU. A model has to stay: with the last one the driver's context ends, and frees what was forgotten. */
function takenOn(index: number): number {
  const { freeBytes, totalBytes } = require(CUDA_BINARY).gpuMemory(index, FAKE_DRIVER);
  return totalBytes - freeBytes;
}

test('what is closed is given back on each GPU', async () => {
  await withModel(listed, { source: Fixture.q4 }, async () => {
    const before = [0, 1, 2].map(takenOn);
    for (let cycle = 0; cycle < 20; cycle += 1) {
      await withModel(listed, { source: Fixture.q4 }, (model) =>
        answer(model, endless([1, 2, 3], { maxTokens: 2 })),
      );
      expect([0, 1, 2].map(takenOn), `cycle ${cycle}`).toEqual(before);
    }
  });
});

describe('what cannot be is refused', () => {
  test.each(['cuda:0,0', 'cuda:0,', 'cuda:,1', 'cuda:0, 1', 'cuda:0,1024', 'cuda:0,cuda:1', 'cuda:0;1'])(
    'device %j',
    async (device) => {
      await expect(createEngine({ device: device as 'cuda' })).rejects.toMatchObject({
        code: 'invalid_parameter',
        message: expect.stringMatching(/several such as "cuda:0,1", none twice, got 'cuda:/),
      });
    },
  );

  test('a GPU that is not there, beside those that are', async () => {
    await expect(createEngine({ device: 'cuda:0,7' })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringContaining('expected GPU 7'),
      hint: expect.stringMatching(/cuda:0 .*cuda:1 .*cuda:2 /),
    });
  });

  test('a model with fewer layers than GPUs', async () => {
    const all = await createEngine({ device: 'cuda:0,1,2', threads: 1 });
    try {
      await expect(all.loadModel({ source: Fixture.q4, ...SMALL_SIZE })).rejects.toMatchObject({
        code: 'invalid_parameter',
        message: expect.stringMatching(
          /at least 3 layers, one for each of cuda:0, cuda:1, cuda:2, got one of 2/,
        ),
      });
    } finally {
      await all.close();
    }
  });

  test('a model that all GPUs together are too small for', async () => {
    const load = { source: Fixture.q4, ...SMALL_SIZE, kvCache: { memory: '300MiB' } };
    await expect(listed.loadModel(load)).rejects.toMatchObject({
      code: 'out_of_memory',
      message: expect.stringMatching(
        /needs 15\d\.\d MiB of cuda:2 while 9\d\.\d MiB are free there, 15\d\.\d MiB of cuda:0 while 9\d\.\d MiB/,
      ),
    });
  });
});

test.each([0, 1])('a request that ends with GPU %d lost says so', (device) => {
  const load: LoadModelOptions = { source: Fixture.q4, contextLength: 64, kvCache: { memory: '4MiB' } };
  const generate: GenerateOptions = { tokens: [1, 2, 3], maxTokens: 60, ignoreEos: true };
  const script = join(__dirname, 'one-engine.cjs');
  const args = [script, 'cuda:0,1', JSON.stringify(load), JSON.stringify(generate)];
  const settings = `num_devices=2,failing_device=${device},launch_failure_at=150`; // behind those of the load
  const env = { ...process.env, OPEN_AUTOGLM_CUDA_DRIVER: FAKE_DRIVER, AUTOGLM_FAKE_CUDA: settings };
  const outcome: unknown = JSON.parse(execFileSync(process.execPath, args, { env, encoding: 'utf8' }));
  expect(outcome).toMatchObject({
    code: 'engine_failed',
    message: expect.stringMatching(
      new RegExp(`^step \\d+ failed with device_lost: cu\\w+: CUDA_ERROR_LAUNCH_FAILED .*on GPU ${device}`),
    ),
  });
});
