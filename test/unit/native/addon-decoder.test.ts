import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NativeAddon } from '../../../lib/native/addon';
import type { DecoderSpec } from '../../../lib/native/decoder-spec';
import { loadAddon } from '../../../lib/native/loader';
import { float64Logits } from './float64-decoder';
import { TestEngine } from './step-driver';
import {
  LAYER,
  latentAttention,
  moeSpec,
  RMS,
  ropeTable,
  seededRandom,
  TinyModel,
  tinySpec,
} from './tiny-model';

let addon: NativeAddon;
let engine: TestEngine;
beforeAll(() => {
  addon = loadAddon().addon;
  engine = new TestEngine(addon);
});
afterAll(() => engine.close());

const UNIT_OFFSET = { ...RMS, hasUnitOffset: true };

const SPECS: Record<string, DecoderSpec> = {
  'a plain llama': tinySpec(),
  'interleaved partial rope with q, k, v biases (GLM)': tinySpec(
    { ropeTables: [ropeTable(8, 'interleaved')] },
    [{ attention: { hasQkvBias: true } }, { attention: { hasQkvBias: true } }],
  ),
  'sandwich norms (GLM-4-0414)': tinySpec({}, [{ normPlacement: 'sandwich' }, { normPlacement: 'sandwich' }]),
  'per-head norms of q and k (Qwen3)': tinySpec({}, [{ attention: { qkNorm: RMS } }]),
  'layer norms, learned positions, ungated GELU and every bias (GPT-2)': tinySpec(
    {
      contextLength: 64,
      embedding: { scale: 1, hasPositions: true, numTokenTypes: 0, norm: null },
      finalNorm: LAYER,
      ropeTables: [],
    },
    [
      {
        norm: LAYER,
        attention: { numKvHeads: 4, hasQkvBias: true, hasOutputBias: true, ropeTable: null },
        mlp: { isGated: false, activation: 'gelu_tanh', hasBias: true },
      },
    ],
  ),
  'norms behind the sub-layers and a normed embedding (BERT)': tinySpec(
    {
      embedding: { scale: 1, hasPositions: false, numTokenTypes: 0, norm: LAYER },
      finalNorm: null,
      head: { isTied: false, hasBias: true, softCap: null, scale: 1 },
    },
    [{ norm: LAYER, normPlacement: 'post', mlp: { isGated: false, activation: 'gelu_erf' } }],
  ),
  'unit offsets, a scaled embedding, soft caps and windows that differ by layer (Gemma 2 and 3)': tinySpec(
    {
      embedding: { scale: 8, hasPositions: false, numTokenTypes: 0, norm: null },
      finalNorm: UNIT_OFFSET,
      head: { isTied: true, hasBias: false, softCap: 3, scale: 1 },
      ropeTables: [ropeTable(16, 'half_split'), ropeTable(16, 'half_split', 1, 10_000)],
    },
    [
      {
        norm: UNIT_OFFSET,
        normPlacement: 'sandwich',
        attention: { slidingWindow: 20, softCap: 1.5, qkNorm: UNIT_OFFSET },
        mlp: { activation: 'gelu_tanh' },
      },
      { norm: UNIT_OFFSET, normPlacement: 'sandwich', attention: { softCap: 1.5, ropeTable: 1 } },
    ],
  ),
  'residual and logit scales, an attention factor and ReLU': tinySpec(
    {
      head: { isTied: false, hasBias: false, softCap: null, scale: 0.25 },
      ropeTables: [ropeTable(16, 'half_split', 1.2)],
    },
    [
      { residualScale: 0.22, mlp: { activation: 'relu' } },
      { residualScale: 0.5, normPlacement: 'sandwich' },
    ],
  ),
  'head sizes that differ between keys and values, and between layers': tinySpec({}, [
    { attention: { headDim: 16, valueDim: 24, numKvHeads: 1 } },
    { attention: { numKvHeads: 1, headDim: 32, valueDim: 8 } },
  ]),
  'experts behind a softmax, with a gated shared one (Qwen2-MoE)': tinySpec({}, [
    { mlp: moeSpec({ router: { normalizesTopK: false }, sharedIntermediateSize: 64, hasSharedGate: true }) },
    { mlp: moeSpec({ activation: 'gelu_tanh' }) },
  ]),
  'experts in groups behind a corrected sigmoid, with a shared one, after a dense layer (GLM-4.5)': tinySpec(
    {},
    [
      {},
      {
        mlp: moeSpec({
          numExperts: 12,
          numExpertsPerToken: 3,
          sharedIntermediateSize: 32,
          router: { score: 'sigmoid', hasCorrectionBias: true, numGroups: 4, topGroups: 2, scale: 2.5 },
        }),
      },
      { mlp: moeSpec(), normPlacement: 'sandwich', residualScale: 0.5 },
    ],
  ),
  'latent attention with low-rank queries (GLM-4.7-Flash)': tinySpec(
    { ropeTables: [ropeTable(16, 'interleaved')] },
    [
      { attention: latentAttention() },
      {
        attention: { ...latentAttention({ rank: 48, outputDim: 8 }), hasQkvBias: true, hasOutputBias: true },
      },
    ],
  ),
  'latent attention with plain queries, beside an ordinary layer': tinySpec({}, [
    { attention: { ...latentAttention({ queryRank: null }), slidingWindow: null } },
    {},
    { attention: { ...latentAttention({ ropeDim: 0 }), ropeTable: null } },
  ]),
  'no norm at the end and no rope': tinySpec({ finalNorm: null, ropeTables: [] }, [
    { attention: { ropeTable: null } },
  ]),
};

function randomTokens(count: number, seed: number, vocabSize = 97): number[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => Math.floor(random() * vocabSize));
}

/** Largest difference as a share of the reference's largest value. */
function worstError(actual: Float32Array, expected: readonly number[]): number {
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...expected.map((value, i) => Math.abs((actual[i] as number) - value))) / largest;
}

describe('every setting of a DecoderSpec', () => {
  // The bound: float32 against float64 over sums of at most a hundred products and two layers.
  test.each(Object.entries(SPECS))('%s: logits equal those of float64 loops', async (_, spec) => {
    const tiny = new TinyModel(spec);
    try {
      const tokens = randomTokens(41, 3);
      const expected = float64Logits(spec, tiny.weights, tokens);
      const model = await engine.load(tiny);
      const positions = tokens.map((_token, i) => i);
      const logits = await model.logits(tokens, positions);
      for (const position of positions) {
        const row = logits.subarray(position * spec.vocabSize, (position + 1) * spec.vocabSize);
        expect(worstError(row, expected[position] as number[]), `position ${position}`).toBeLessThan(1e-5);
      }
      await model.close();
    } finally {
      tiny.remove();
    }
  });

  test("a request's rope table is added to each layer's own", async () => {
    const spec = tinySpec({ ropeTables: [ropeTable(16, 'half_split'), ropeTable(16, 'half_split', 1, 50)] });
    const tiny = new TinyModel(spec);
    const model = await engine.load(tiny);
    const tokens = randomTokens(20, 5);
    for (const table of [0, 1]) {
      const logits = await model.logits(tokens, [19], table);
      const expected = float64Logits(spec, tiny.weights, tokens, table)[19] as number[];
      expect(worstError(logits, expected), `table ${table}`).toBeLessThan(1e-5);
    }
    tiny.remove();
  });

  test.each([
    [
      'a head count that its key-value heads do not divide',
      { attention: { numKvHeads: 3 } },
      'invalid_parameter',
    ],
    ['a rope table that does not exist', { attention: { ropeTable: 4 } }, 'invalid_parameter'],
    [
      'a sliding window that sees the future',
      { attention: { isCausal: false, slidingWindow: 8 } },
      'unsupported_model',
    ],
    ['more experts per token than experts', { mlp: moeSpec({ numExpertsPerToken: 7 }) }, 'invalid_parameter'],
    [
      'groups that do not divide the experts',
      { mlp: moeSpec({ router: { numGroups: 4 } }) },
      'invalid_parameter',
    ],
    [
      'top groups with too few experts',
      { mlp: moeSpec({ router: { numGroups: 6, topGroups: 1 } }) },
      'invalid_parameter',
    ],
    [
      'latent attention whose cached width is not that of its parts',
      { attention: { ...latentAttention(), headDim: 64 } },
      'invalid_parameter',
    ],
    ['a latent of odd width', { attention: latentAttention({ rank: 24 }) }, 'unsupported_model'],
    [
      'latent attention that rotates more than it keeps apart',
      { attention: latentAttention({ ropeDim: 0 }) },
      'invalid_parameter',
    ],
    ['a gate without a shared expert', { mlp: moeSpec({ hasSharedGate: true }) }, 'invalid_parameter'],
  ] as const)('%s is refused with %s', async (_, layer, code) => {
    const tiny = new TinyModel(tinySpec({}, [layer]));
    await expect(engine.load(tiny)).rejects.toMatchObject({ code });
    tiny.remove();
  });

  test('fp8 KV is refused with invalid_parameter', async () => {
    const tiny = new TinyModel(tinySpec());
    await expect(engine.load(tiny, { kvDtype: 'fp8' })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringMatching(/^expected kvDtype bf16, int8 or f32 on the processor, got fp8/),
    });
    tiny.remove();
  });

  test('int8 KV of a latent is refused with invalid_parameter', async () => {
    const tiny = new TinyModel(tinySpec({}, [{}, { attention: latentAttention() }]));
    await expect(engine.load(tiny, { kvDtype: 'int8' })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringMatching(/^layers\.1: expected kvDtype bf16 or f32 .* got int8$/),
    });
    tiny.remove();
  });
});

// Goal: what else is in a step, and how a prompt is cut, changes no bit of the logits or of the tokens drawn.
describe.each([
  ['exact', 'f32'],
  ['fast', 'bf16'],
  ['fast', 'int8'],
] as const)('batch invariance, %s with %s KV', (precision, kvDtype) => {
  const experts = moeSpec({
    sharedIntermediateSize: 32,
    router: { score: 'sigmoid', hasCorrectionBias: true },
  });
  const request = (row: number) => ({
    row,
    tokens: randomTokens(30 + row, 100 + row),
    maxTokens: 20,
    temperature: 0.9,
    topP: 0.95,
    seed: 40 + row,
  });

  test.each([1, 2])('tokens are the same alone and in a mixed batch, with %i threads', async (threads) => {
    const tiny = new TinyModel(
      tinySpec({}, [
        { mlp: experts },
        { attention: { slidingWindow: 24 } },
        ...(kvDtype === 'int8' ? [] : [{ attention: latentAttention() }]), // refused
      ]),
      9,
    );
    const own = new TestEngine(addon, threads);
    const model = await own.load(tiny, { precision, kvDtype });
    const alone: number[][] = [];
    for (let row = 0; row < 4; row += 1) alone.push(await model.generate(request(row)));
    for (const chunk of [1, 7, 16])
      expect(await model.generate(request(1), chunk), `chunks of ${chunk}`).toEqual(alone[1]);

    // Row r starts r steps late, its prompt in chunks of 11, so that prefill and decode mix.
    const together: number[][] = [[], [], [], []];
    const computed = [0, 0, 0, 0];
    for (let step = 0; together.some((tokens) => tokens.length < 20); step += 1) {
      const rows = [0, 1, 2, 3].filter((row) => step >= row && (together[row] as number[]).length < 20);
      const entries = rows.map((row) => {
        const length = 30 + row + (together[row] as number[]).length;
        const start = computed[row] as number;
        const count = Math.min(11, length - start);
        computed[row] = start + count;
        return { row, start, count, samples: start + count === length };
      });
      const starting = rows.filter((row) => step === row);
      const result = await model.submit({
        admissions: starting.map(request),
        pageUpdates: starting.flatMap((row) => model.pages(row, 60)),
        entries,
      });
      expect(result.errorCode).toBeNull();
      for (const { row, token } of result.rows) if (token !== null) together[row]?.push(token);
    }
    expect(together).toEqual(alone);
    await own.close();
    tiny.remove();
  });

  test('logits are the same bits in one step and in chunks beside another request', async () => {
    const tiny = new TinyModel(tinySpec(), 10);
    const model = await engine.load(tiny, { precision, kvDtype });
    const tokens = randomTokens(50, 8);
    const positions = [0, 15, 16, 31, 49];
    const whole = await model.logits(tokens, positions);
    const output = new Float32Array(positions.length * 97);
    addon.setOutput(model.handle, 5, output);
    for (let start = 0; start < 50; start += 13) {
      const isFirst = start === 0;
      const other = { row: 3, tokens: randomTokens(70, 9) };
      const { errorCode } = await model.submit({
        admissions: isFirst
          ? [{ row: 1, kind: 'logits', tokens, positions, outputId: 5, maxTokens: 0 }, other]
          : [],
        pageUpdates: isFirst ? [...model.pages(1, 50), ...model.pages(3, 70)] : [],
        entries: [
          { row: 3, start, count: 9 },
          { row: 1, start, count: Math.min(13, 50 - start) },
        ],
      });
      expect(errorCode).toBeNull();
    }
    expect(new Uint32Array(output.buffer)).toEqual(new Uint32Array(whole.buffer.slice(0)));
    await model.close();
    tiny.remove();
  });
});
