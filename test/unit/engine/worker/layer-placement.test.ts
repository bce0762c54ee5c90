import { describe, expect, test } from 'vitest';
import {
  type LayerPlacement,
  type PlacementInput,
  placeLayers,
} from '../../../../lib/engine/worker/layer-placement';
import { splitWeightBytes } from '../../../../lib/model/gpu-estimate';
import { seededRandom } from '../../native/tiny-model';

const PAGE = 16;
const MIB = 2 ** 20;

/** Ten layers of 10 MiB, and 20 MiB on either end. */
const input = (overrides: Partial<PlacementInput> = {}): PlacementInput => ({
  modelContextLength: 2048,
  contextLength: null,
  kvMemory: null,
  weights: {
    layers: Array.from({ length: 10 }, () => ({ gpu: 10 * MIB, host: 10 * MIB })),
    embedding: { gpu: 20 * MIB, host: 20 * MIB },
    head: { beside: 20 * MIB, alone: 20 * MIB },
    pooled: 0,
  },
  kvBytesByLayer: new Array<number>(10).fill(100),
  draftKvPerToken: 0,
  gpu: { free: 1000 * MIB, scratch: 5 * MIB },
  host: { free: 1000 * MIB, scratch: 5 * MIB, loadingBytes: 140 * MIB },
  gpuLayers: null,
  ...overrides,
});
const withGpu = (free: number, overrides: Partial<PlacementInput> = {}): PlacementInput =>
  input({ gpu: { free, scratch: 5 * MIB }, ...overrides });

interface Taken {
  readonly gpu: number;
  readonly host: number;
}

/** What a placement takes on each side. */
function taken(request: PlacementInput, { gpuLayers, numPages }: LayerPlacement): Taken {
  const first = request.kvBytesByLayer.length - gpuLayers;
  const kvOf = (layers: readonly number[]): number =>
    layers.reduce((sum, each) => sum + each, 0) * PAGE * numPages;
  const weights = splitWeightBytes(request.weights, gpuLayers);
  const draftKv = request.draftKvPerToken * PAGE * numPages;
  return {
    gpu: weights.gpu + request.gpu.scratch + kvOf(request.kvBytesByLayer.slice(first)) + draftKv,
    host:
      first === 0 ? 0 : weights.host + request.host.scratch + kvOf(request.kvBytesByLayer.slice(0, first)),
  };
}

describe('layers on the GPU', () => {
  test('are all where they fit beside the KV cache', () => {
    expect(placeLayers(input())).toEqual({ gpuLayers: 10, contextLength: 2048, numPages: 4 * 128 });
  });

  test('are as many as fit: the embedding stays with the first layer, the head with the last one', () => {
    // 145 MiB without the KV cache, which wants 4 MiB for 2048 tokens, twice.
    expect(placeLayers(withGpu(149 * MIB))).toMatchObject({ gpuLayers: 10 });
    expect(placeLayers(withGpu(148 * MIB))).toMatchObject({ gpuLayers: 9 });
    expect(placeLayers(withGpu(50 * MIB))).toMatchObject({ gpuLayers: 2, contextLength: 2048 });
  });

  test('leave the GPU for a default context of 4096 tokens, not for a longer one', () => {
    // 2 * 4096 * 1000 bytes are 7.8 MiB.
    const request = { modelContextLength: 2 ** 17 };
    expect(placeLayers(withGpu(153 * MIB, request))).toMatchObject({ gpuLayers: 10, contextLength: 4192 });
    expect(placeLayers(withGpu(152 * MIB, request))).toMatchObject({ gpuLayers: 9 });
    // A context that was asked for is met by fewer layers.
    const long = placeLayers(withGpu(153 * MIB, { ...request, contextLength: 2 ** 16 }));
    expect(long).toMatchObject({ gpuLayers: 5, contextLength: 2 ** 16 });
  });

  test('are what the caller says, in a shorter default context if need be', () => {
    expect(placeLayers(input({ gpuLayers: 3 }))).toMatchObject({ gpuLayers: 3 });
    expect(placeLayers(withGpu(146 * MIB, { gpuLayers: 10 }))).toMatchObject({
      gpuLayers: 10,
      contextLength: 512,
    });
  });

  test('keep the KV cache that the caller wants, each side its layers', () => {
    const request = withGpu(100 * MIB, { kvMemory: 100 * MIB });
    const placement = placeLayers(request);
    expect(placement.numPages).toBe(Math.floor((100 * MIB) / (1000 * PAGE)));
    // 25 MiB, and 20 MiB of weights and pages for each layer.
    expect(placement.gpuLayers).toBe(3);
  });

  test('make room for a draft model', () => {
    expect(placeLayers(withGpu(149 * MIB, { draftKvPerToken: 1000 }))).toMatchObject({ gpuLayers: 9 });
  });
});

describe('refusals', () => {
  const refusal = (code: string, message: RegExp) =>
    expect.objectContaining({ code, message: expect.stringMatching(message) });

  test.each<[string, PlacementInput, string, RegExp]>([
    [
      'more layers than there are',
      input({ gpuLayers: 11 }),
      'invalid_parameter',
      /1\.\.10, the model's layers, got 11/,
    ],
    ['a context beyond the model', withGpu(1, { contextLength: 4096 }), 'invalid_parameter', /at most 2048/],
    [
      'KV memory below the context',
      input({ contextLength: 2048, kvMemory: MIB }),
      'invalid_parameter',
      /kvCache\.memory to hold one sequence of 2048 tokens/,
    ],
    [
      'a GPU without room for a layer',
      withGpu(30 * MIB),
      'out_of_memory',
      /neither the GPU, where it needs 145\.0 MiB while 30\.0 MiB are free there, nor split: with 1 of its 10 layers on the GPU it needs 35\.0 MiB while 30\.0 MiB are free there and, of the machine's memory, 140\.0 MiB while 1000\.0 MiB are free/,
    ],
    [
      'a machine without room for the weights while they are loaded',
      withGpu(100 * MIB, { host: { free: 100 * MIB, scratch: 5 * MIB, loadingBytes: 140 * MIB } }),
      'out_of_memory',
      /with 7 of its 10 layers on the GPU it needs 9\d\.\d MiB while 100\.0 MiB .* 140\.0 MiB while 100\.0 MiB are free/,
    ],
    [
      'layers that the caller wants and the GPU has no room for',
      withGpu(50 * MIB, { gpuLayers: 4 }),
      'out_of_memory',
      /^with 4 of its 10 layers on the GPU it needs 65\.0 MiB while 50\.0 MiB/,
    ],
    [
      'all layers where they do not fit',
      withGpu(50 * MIB, { gpuLayers: 10 }),
      'out_of_memory',
      /^the model with its KV cache needs 145\.0 MiB while 50\.0 MiB are free there/,
    ],
  ])('%s', (_what, request, code, message) => {
    expect(() => placeLayers(request)).toThrow(refusal(code, message));
  });

  test('carry the figures of both sides', () => {
    expect(() => placeLayers(withGpu(30 * MIB))).toThrow(
      expect.objectContaining({
        details: {
          gpuLayers: 1,
          needed: { gpu: expect.any(Number), host: 140 * MIB },
          free: { gpu: 30 * MIB, host: 1000 * MIB },
        },
      }),
    );
  });
});

// Goal: what is chosen fits on both sides, one layer more on the GPU would not, and a refusal is right. Method: random
// models and machines; what fits is decided by adding up here.
test('the choice is the largest that fits, whatever the costs', () => {
  const random = seededRandom(11);
  const upTo = (most: number): number => Math.floor(random() * most);
  let numSplit = 0;
  let numRefused = 0;
  for (let round = 0; round < 2_000; round += 1) {
    const numLayers = 1 + upTo(12);
    const layers = Array.from({ length: numLayers }, () => ({ gpu: upTo(1e6), host: upTo(1e6) }));
    const embedding = { gpu: upTo(2e6), host: upTo(2e6) };
    const alone = upTo(2e6);
    const request: PlacementInput = {
      modelContextLength: 1 + upTo(1000),
      contextLength: null,
      kvMemory: random() < 0.5 ? null : 16 * 200 * 12 + upTo(1e6),
      weights: { layers, embedding, head: { beside: upTo(alone), alone }, pooled: upTo(1e4) },
      kvBytesByLayer: layers.map(() => 1 + upTo(200)),
      draftKvPerToken: 0,
      gpu: { free: upTo(12e6), scratch: upTo(1e6) },
      host: { free: upTo(12e6), scratch: upTo(1e6), loadingBytes: upTo(6e6) },
      gpuLayers: null,
    };
    const placement = placed(request);
    const sized = (gpuLayers: number, tokens: number): LayerPlacement => ({
      gpuLayers,
      contextLength: tokens,
      numPages: request.kvMemory === null ? Math.ceil(tokens / PAGE) : pagesOf(request),
    });
    if (placement === null) {
      numRefused += 1;
      for (let gpuLayers = 1; gpuLayers <= numLayers; gpuLayers += 1)
        expect(fits(request, sized(gpuLayers, 1)), `round ${round}: refused ${gpuLayers}`).toBe(false);
      continue;
    }
    const { gpuLayers } = placement;
    if (gpuLayers < numLayers) numSplit += 1;
    expect(fits(request, placement), `round ${round}: ${gpuLayers} layers`).toBe(true);
    if (gpuLayers === numLayers) continue;
    const isWholeContext = placement.contextLength === request.modelContextLength;
    const oneMore = sized(gpuLayers + 1, isWholeContext ? request.modelContextLength : 1);
    expect(fits(request, oneMore), `round ${round}: one more`).toBe(false);
  }
  expect(numSplit).toBeGreaterThan(200);
  expect(numRefused).toBeGreaterThan(200);
});

const pagesOf = ({ kvMemory, kvBytesByLayer }: PlacementInput): number =>
  (kvMemory ?? 0) / (PAGE * kvBytesByLayer.reduce((sum, each) => sum + each, 0));

function placed(request: PlacementInput): LayerPlacement | null {
  try {
    return placeLayers(request);
  } catch (error) {
    expect(error).toMatchObject({ code: 'out_of_memory' });
    return null;
  }
}

/** A default KV cache takes at most half of what the weights leave. */
function fits(request: PlacementInput, placement: LayerPlacement): boolean {
  const { gpu, host } = taken(request, placement);
  const { gpu: gpuFixed, host: hostFixed } = taken(request, { ...placement, numPages: 0 });
  const share = request.kvMemory === null ? 2 : 1;
  const isWhole = placement.gpuLayers === request.kvBytesByLayer.length;
  const fitsGpu = gpuFixed + share * (gpu - gpuFixed) <= request.gpu.free;
  const needed = Math.max(request.host.loadingBytes, hostFixed + share * (host - hostFixed));
  return fitsGpu && (isWhole || needed <= request.host.free);
}
