import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Finish, Pooling } from '../../../lib/native/abi';
import type { NativeAddon } from '../../../lib/native/addon';
import type { DecoderSpec } from '../../../lib/native/decoder-spec';
import { loadAddon } from '../../../lib/native/loader';
import { float64Pooled } from './float64-decoder';
import { type TestAdmission, TestEngine, type TestModel } from './step-driver';
import { LAYER, type LayerChanges, seededRandom, TinyModel, tinySpec } from './tiny-model';

let addon: NativeAddon;
let engine: TestEngine;
beforeAll(() => {
  addon = loadAddon().addon;
  engine = new TestEngine(addon);
});
afterAll(() => engine.close());

const BERT_LAYER: LayerChanges = {
  norm: LAYER,
  normPlacement: 'post',
  attention: {
    numKvHeads: 4,
    hasQkvBias: true,
    hasOutputBias: true,
    ropeTable: null,
    isCausal: false,
  },
  mlp: { isGated: false, activation: 'gelu_erf', hasBias: true },
};

const BERT = tinySpec(
  {
    contextLength: 96,
    embedding: { scale: 1, hasPositions: true, numTokenTypes: 2, norm: LAYER },
    finalNorm: null,
    head: null,
    ropeTables: [],
  },
  [BERT_LAYER, BERT_LAYER],
);

const CLASSIFIER: DecoderSpec = {
  ...BERT,
  pooledLayers: [
    { outSize: 64, hasBias: true, hasTanh: true },
    { outSize: 3, hasBias: false, hasTanh: false },
  ],
};

type PoolRequest = Pick<TestAdmission, 'tokens' | 'pooling' | 'secondSegment'>;

const POOLINGS = Object.keys(Pooling) as (keyof typeof Pooling)[];

function randomTokens(count: number, seed: number): number[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => Math.floor(random() * 97));
}

const bitsOf = (values: Float32Array): number[] => [...new Uint32Array(values.slice().buffer)];

/** One pooled vector, its input cut in chunks. */
async function pooled(
  model: TestModel,
  size: number,
  { tokens, ...request }: PoolRequest,
  chunk = 1 << 20,
): Promise<Float32Array> {
  const output = new Float32Array(size);
  addon.setOutput(model.handle, 9, output);
  for (let start = 0; start < tokens.length; start += chunk) {
    const isFirst = start === 0;
    const { errorCode } = await model.submit({
      admissions: isFirst ? [{ row: 0, kind: 'pool', tokens, outputId: 9, maxTokens: 0, ...request }] : [],
      pageUpdates: isFirst ? model.pages(0, tokens.length) : [],
      entries: [{ row: 0, start, count: Math.min(chunk, tokens.length - start) }],
    });
    expect(errorCode).toBeNull();
  }
  addon.setOutput(model.handle, 9, null);
  return output;
}

async function withModel(spec: DecoderSpec, body: (model: TestModel, tiny: TinyModel) => Promise<void>) {
  const tiny = new TinyModel(spec, 21);
  const model = await engine.load(tiny);
  try {
    await body(model, tiny);
  } finally {
    await model.close();
    tiny.remove();
  }
}

describe('pooled vectors', () => {
  // The bound: float32 against float64 over sums of at most a hundred products and two layers.
  test.each([
    ['a bidirectional encoder', BERT],
    ['an encoder with a classification head', CLASSIFIER],
    ['a causal decoder', tinySpec()],
  ])('%s: vectors equal those of float64 loops', async (_, spec) => {
    await withModel(spec, async (model, tiny) => {
      const size = spec.pooledLayers.at(-1)?.outSize ?? spec.hiddenSize;
      const segments = spec.embedding.numTokenTypes > 0 ? [0, 17] : [0];
      for (const pooling of POOLINGS) {
        for (const secondSegment of segments) {
          const tokens = randomTokens(41, 3);
          const expected = float64Pooled(spec, tiny.weights, tokens, pooling, secondSegment);
          const found = await pooled(model, size, { tokens, pooling, secondSegment });
          const largest = Math.max(...expected.map(Math.abs));
          for (const [i, value] of expected.entries()) {
            const error = Math.abs((found[i] as number) - value) / largest;
            expect(error, `${pooling}, segment ${secondSegment}, number ${i}`).toBeLessThan(1e-5);
          }
        }
      }
    });
  });

  test.each(POOLINGS)('%s: the same bits in chunks beside a request that generates', async (pooling) => {
    await withModel(tinySpec(), async (model) => {
      const tokens = randomTokens(50, 8);
      const whole = bitsOf(await pooled(model, 64, { tokens, pooling }));
      for (const chunk of [1, 13]) {
        expect(bitsOf(await pooled(model, 64, { tokens, pooling }, chunk)), `chunks of ${chunk}`).toEqual(
          whole,
        );
      }
      const output = new Float32Array(64);
      addon.setOutput(model.handle, 5, output);
      for (let start = 0; start < 50; start += 17) {
        const isFirst = start === 0;
        const { errorCode } = await model.submit({
          admissions: isFirst
            ? [
                { row: 1, kind: 'pool', tokens, pooling, outputId: 5, maxTokens: 0 },
                { row: 3, tokens: randomTokens(30, 9) },
              ]
            : [],
          pageUpdates: isFirst ? [...model.pages(1, 50), ...model.pages(3, 60)] : [],
          entries: [
            { row: 3, start: isFirst ? 0 : 29 + start / 17, count: isFirst ? 30 : 1, samples: true },
            { row: 1, start, count: Math.min(17, 50 - start) },
          ],
        });
        expect(errorCode).toBeNull();
      }
      expect(bitsOf(output)).toEqual(whole);
    });
  });

  test('an encoder gives the same bits alone and among forty others', async () => {
    const tiny = new TinyModel(CLASSIFIER, 22);
    const model = await engine.load(tiny, { maxRows: 40, numPages: 200, maxStepTokens: 1024 });
    const requests = Array.from({ length: 40 }, (_, row) => ({
      row,
      tokens: randomTokens(1 + row, 60 + row),
    }));
    const outputs = requests.map(({ row }) => {
      const output = new Float32Array(3);
      addon.setOutput(model.handle, 100 + row, output);
      return output;
    });
    const { errorCode } = await model.submit({
      admissions: requests.map(({ row, tokens }) => ({
        row,
        tokens,
        kind: 'pool',
        pooling: 'mean',
        outputId: 100 + row,
        maxTokens: 0,
      })),
      pageUpdates: requests.flatMap(({ row, tokens }) => model.pages(row, tokens.length, row * 3)),
      entries: requests.map(({ row, tokens }) => ({ row, start: 0, count: tokens.length })),
    });
    expect(errorCode).toBeNull();
    for (const { row, tokens } of requests) {
      const alone = await pooled(model, 3, { tokens, pooling: 'mean' });
      expect(bitsOf(outputs[row] as Float32Array), `row ${row}`).toEqual(bitsOf(alone));
    }
    await model.close();
    tiny.remove();
  });

  test('a weight that is not a number ends its request with a numeric error', async () => {
    const tiny = new TinyModel(CLASSIFIER, 23);
    tiny.poison('pooled.1', 64, Number.NaN); // label 1
    const model = await engine.load(tiny);
    addon.setOutput(model.handle, 9, new Float32Array(3));
    const { errorCode, rows } = await model.submit({
      admissions: [{ row: 0, kind: 'pool', tokens: [1, 2], outputId: 9, maxTokens: 0 }],
      pageUpdates: model.pages(0, 2),
      entries: [{ row: 0, start: 0, count: 2 }],
    });
    expect(errorCode).toBeNull();
    expect(rows[0]?.finish).toBe(Finish.numericError);
    await model.close();
    tiny.remove();
  });
});

describe('plans that a model cannot execute are refused with invalid_parameter', () => {
  const pool = { row: 0, kind: 'pool', tokens: [1, 2, 3, 4], outputId: 9, maxTokens: 0 } as const;
  test.each([
    ['a part of an encoder’s input', BERT, pool, { start: 0, count: 3 }, 64],
    ['a generation of a model without a language head', BERT, { row: 0, tokens: [1, 2] }, null, 64],
    ['a second segment without token types', tinySpec(), { ...pool, secondSegment: 2 }, null, 64],
    ['a second segment behind the tokens', BERT, { ...pool, secondSegment: 4 }, null, 64],
    ['a pooled input whose beginning is left out', tinySpec(), pool, { start: 2, count: 2 }, 64],
    ['an output buffer that is too small', CLASSIFIER, pool, null, 2],
  ] as const)('%s', async (_, spec, admission, part, outputSize) => {
    await withModel(spec, async (model) => {
      addon.setOutput(model.handle, 9, new Float32Array(outputSize));
      const { errorCode } = await model.submit({
        admissions: [admission],
        pageUpdates: model.pages(0, admission.tokens.length),
        entries: [{ row: 0, ...(part ?? { start: 0, count: admission.tokens.length }) }],
      });
      expect(errorCode).toBe('invalid_parameter');
    });
  });
});
