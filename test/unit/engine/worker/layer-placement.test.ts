import { describe, expect, test } from 'vitest';
import type { Stage } from '../../../../lib/engine/worker/layer-cuts';
import {
  type GpuSide,
  type LayerPlacement,
  type PlacementInput,
  placeLayers,
} from '../../../../lib/engine/worker/layer-placement';
import { splitWeightBytes } from '../../../../lib/model/gpu-estimate';
import { seededRandom } from '../../native/tiny-model';

const PAGE = 16;
const MIB = 2 ** 20;

const gpusWith = (...free: readonly number[]): PlacementInput['gpus'] =>
  free.map((each, index) => ({ name: `cuda:${index}`, free: each, scratch: 5 * MIB }));

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
  gpus: gpusWith(1000 * MIB),
  usesAllGpus: false,
  lastBytes: 0,
  host: { free: 1000 * MIB, scratch: 5 * MIB, loadingBytes: 140 * MIB },
  gpuLayers: null,
  ...overrides,
});
const withGpu = (free: number, overrides: Partial<PlacementInput> = {}): PlacementInput =>
  input({ gpus: gpusWith(free), ...overrides });

interface Taken {
  readonly gpus: readonly number[];
  readonly host: number;
}

/** What a placement takes on each side. */
function taken(request: PlacementInput, { gpuLayers, numPages, stages }: Placed): Taken {
  const { weights, kvBytesByLayer, gpus, lastBytes, draftKvPerToken, host } = request;
  const numLayers = kvBytesByLayer.length;
  const kvOf = (layers: readonly number[]): number => sum(layers) * PAGE * numPages;
  const onGpus = gpus.map((_, index) => {
    const stage = stages.find(({ gpu }) => gpu === index);
    if (stage === undefined) return 0;
    const { first, end } = stage;
    const isFirst = first === 0;
    const isLast = end === numLayers;
    const layers = weights.layers.slice(first, end).map(({ gpu }) => gpu);
    const head = isFirst ? weights.head.beside : weights.head.alone;
    return (
      sum(layers) +
      (gpus[index] as GpuSide).scratch +
      kvOf(kvBytesByLayer.slice(first, end)) +
      (isFirst ? weights.embedding.gpu : 0) +
      (isLast ? head + lastBytes + kvOf([draftKvPerToken]) : 0)
    );
  });
  const first = numLayers - gpuLayers;
  const hostBytes = splitWeightBytes(weights, gpuLayers).host + host.scratch;
  return {
    gpus: onGpus,
    host: first === 0 ? 0 : hostBytes + kvOf(kvBytesByLayer.slice(0, first)),
  };
}

type Placed = Pick<LayerPlacement, 'gpuLayers' | 'numPages' | 'stages'>;
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

describe('layers on the GPU', () => {
  test('are all where they fit beside the KV cache', () => {
    expect(placeLayers(input())).toEqual({
      gpuLayers: 10,
      stages: [{ gpu: 0, first: 0, end: 10 }],
      contextLength: 2048,
      numPages: 4 * 128,
    });
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

describe('layers on several GPUs', () => {
  const withGpus = (free: readonly number[], overrides: Partial<PlacementInput> = {}): PlacementInput =>
    input({ gpus: gpusWith(...free.map((each) => each * MIB)), ...overrides });
  const cutsOf = (request: PlacementInput): readonly (readonly number[])[] =>
    placeLayers(request).stages.map(({ gpu, first, end }) => [gpu, first, end]);

  test('are all on the first one where they fit', () => {
    expect(cutsOf(withGpus([149, 1000]))).toEqual([[0, 0, 10]]);
  });

  test('are on as few as it takes', () => {
    expect(placeLayers(withGpus([148, 148, 148]))).toMatchObject({ gpuLayers: 10, contextLength: 2048 });
    expect(cutsOf(withGpus([148, 148, 148]))).toEqual([
      [0, 0, 5],
      [1, 5, 10],
    ]);
    expect(cutsOf(withGpus([70, 70, 70]))).toHaveLength(3);
  });

  test('are shared out by what is free: the embedding and the head count', () => {
    expect(cutsOf(withGpus([130, 60]))).toEqual([
      [0, 0, 8],
      [1, 8, 10],
    ]);
    expect(cutsOf(withGpus([60, 130], { lastBytes: 20 * MIB }))).toEqual([
      [0, 0, 3],
      [1, 3, 10],
    ]);
  });

  test('are on another GPU alone rather than on two', () => {
    expect(cutsOf(withGpus([100, 100, 149]))).toEqual([[2, 0, 10]]);
  });

  test('pass over a GPU that is taken, unless it was asked for', () => {
    expect(cutsOf(withGpus([1, 1000]))).toEqual([[1, 0, 10]]);
    expect(() => placeLayers(withGpus([1, 1000], { usesAllGpus: true }))).toThrow(
      expect.objectContaining({
        code: 'out_of_memory',
        details: expect.objectContaining({
          gpus: [
            { device: 'cuda:0', needed: expect.any(Number), free: MIB },
            { device: 'cuda:1', needed: expect.any(Number), free: 1000 * MIB },
          ],
        }),
      }),
    );
  });

  test('are on all that were asked for, also where one has room', () => {
    expect(cutsOf(withGpus([1000, 1000], { usesAllGpus: true }))).toEqual([
      [0, 0, 5],
      [1, 5, 10],
    ]);
  });

  test('take a GPU more for a default context of 4096 tokens, not for a longer one', () => {
    const request = { modelContextLength: 2 ** 17 };
    expect(cutsOf(withGpus([153, 1000], request))).toEqual([[0, 0, 10]]);
    expect(cutsOf(withGpus([152, 152], request))).toHaveLength(2);
    expect(cutsOf(withGpus([153, 153], { ...request, contextLength: 2 ** 16 }))).toHaveLength(2);
  });

  test('leave the first ones to the processor where all GPUs are too small', () => {
    expect(placeLayers(withGpus([50, 50]))).toMatchObject({
      gpuLayers: 6,
      stages: [
        { gpu: 0, first: 4, end: 8 },
        { gpu: 1, first: 8, end: 10 },
      ],
    });
    expect(placeLayers(withGpus([50, 1000], { gpuLayers: 2 }))).toMatchObject({
      stages: [{ gpu: 0, first: 8, end: 10 }],
    });
    expect(placeLayers(withGpus([50, 50], { gpuLayers: 2, usesAllGpus: true }))).toMatchObject({
      stages: [
        { gpu: 0, first: 8, end: 9 },
        { gpu: 1, first: 9, end: 10 },
      ],
    });
  });

  test('have as many pages as the one with the least room for them', () => {
    const request = withGpus([85, 1000], { modelContextLength: 2 ** 17, usesAllGpus: true });
    const { numPages, stages } = placeLayers(request);
    const pageBytes = PAGE * 100 * ((stages[0]?.end ?? 0) - (stages[0]?.first ?? 0));
    const room = 85 * MIB - (taken(request, { gpuLayers: 10, numPages: 0, stages }).gpus[0] ?? 0);
    expect(numPages).toBe(Math.floor(room / 2 / pageBytes));
  });

  test('ask no GPU for its memory that has no part in it', () => {
    const asked: number[] = [];
    const gpus = [1000, 1000, 1000].map((free, index) => ({
      name: `cuda:${index}`,
      scratch: 0,
      get free() {
        asked.push(index);
        return free * MIB;
      },
    }));
    placeLayers(input({ gpus }));
    expect(new Set(asked)).toEqual(new Set([0]));
  });

  test('are no fewer than the GPUs that were asked for', () => {
    const gpus = { usesAllGpus: true, gpus: gpusWith(...new Array<number>(11).fill(1000 * MIB)) };
    expect(() => placeLayers(input(gpus))).toThrow(/model of at least 11 layers, one for each of cuda:0, /);
    expect(() => placeLayers(withGpus([1000, 1000], { usesAllGpus: true, gpuLayers: 1 }))).toThrow(
      /gpuLayers to be "auto" or an integer in 2\.\.10, at least one for each of cuda:0, cuda:1, got 1/,
    );
  });

  test('that fit nowhere are refused with the figures of every side', () => {
    expect(() => placeLayers(withGpus([20, 20]))).toThrow(
      expect.objectContaining({
        code: 'out_of_memory',
        message: expect.stringMatching(
          /neither the GPUs, where it needs .* MiB of cuda:0 while 20\.0 MiB are free there, .* MiB of cuda:1 while 20\.0 MiB are free there, nor split: with 1 of its 10 layers/,
        ),
      }),
    );
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
          gpus: [{ device: 'cuda:0', needed: expect.any(Number), free: 30 * MIB }],
          host: { needed: 140 * MIB, free: 1000 * MIB },
        },
      }),
    );
  });
});

// Goal: what is chosen fits on all sides, neither one layer more on the GPUs nor fewer GPUs would, and a refusal is right.
// Method: random models and machines; what fits is decided by adding up here, over every cut there is.
test('the choice is the largest that fits, whatever the costs', () => {
  const random = seededRandom(11);
  const upTo = (most: number): number => Math.floor(random() * most);
  let numSplit = 0;
  let numCut = 0;
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
      gpus: Array.from({ length: 1 + upTo(3) }, (_, index) => ({
        name: `cuda:${index}`,
        free: upTo(12e6) / (1 + upTo(3)),
        scratch: upTo(1e6),
      })),
      usesAllGpus: false,
      lastBytes: upTo(1e6),
      host: { free: upTo(12e6), scratch: upTo(1e6), loadingBytes: upTo(6e6) },
      gpuLayers: null,
    };
    const placement = placed(request);
    const pages = (tokens: number): number =>
      request.kvMemory === null ? Math.ceil(tokens / PAGE) : pagesOf(request);
    const couldHave = (gpuLayers: number, numGpus: number, tokens: number): boolean =>
      everyCut(numLayers - gpuLayers, numLayers, numGpus).some((stages) =>
        fits(request, { gpuLayers, numPages: pages(tokens), stages }),
      );
    const numGpus = request.gpus.length;
    if (placement === null) {
      numRefused += 1;
      for (let gpuLayers = 1; gpuLayers <= numLayers; gpuLayers += 1)
        expect(couldHave(gpuLayers, numGpus, 1), `round ${round}: refused ${gpuLayers}`).toBe(false);
      continue;
    }
    const { gpuLayers, stages } = placement;
    if (stages.length > 1) numCut += 1;
    if (gpuLayers < numLayers) numSplit += 1;
    expect(fits(request, placement), `round ${round}: ${gpuLayers} layers`).toBe(true);
    const isWholeContext = placement.contextLength === request.modelContextLength;
    const tokens = isWholeContext ? request.modelContextLength : 1;
    if (gpuLayers < numLayers) {
      expect(couldHave(gpuLayers + 1, numGpus, tokens), `round ${round}: one more`).toBe(false);
      continue;
    }
    const last = stages.at(-1)?.gpu ?? 0;
    const better = everyCut(0, numLayers, numGpus).filter(
      (cut) =>
        (cut.length === 1 && stages.length > 1) ||
        (stages.length >= cut.length && (cut.at(-1)?.gpu ?? 0) < last),
    );
    expect(
      better.some((cut) => fits(request, { gpuLayers, numPages: pages(tokens), stages: cut })),
      `round ${round}: fewer GPUs`,
    ).toBe(false);
  }
  expect(numCut).toBeGreaterThan(100);
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

/** Every way to have the layers [first, end) on some of so many GPUs, in their order. */
function everyCut(first: number, end: number, numGpus: number, gpu = 0): (readonly Stage[])[] {
  if (first === end) return [[]];
  if (gpu === numGpus) return [];
  const cuts = everyCut(first, end, numGpus, gpu + 1);
  for (let to = first + 1; to <= end; to += 1)
    for (const rest of everyCut(to, end, numGpus, gpu + 1)) cuts.push([{ gpu, first, end: to }, ...rest]);
  return cuts;
}

/** A default KV cache takes at most half of what the weights leave. */
function fits(request: PlacementInput, placement: Placed): boolean {
  const whole = taken(request, placement);
  const fixed = taken(request, { ...placement, numPages: 0 });
  const share = request.kvMemory === null ? 2 : 1;
  const needed = (all: number, without: number): number => without + share * (all - without);
  const fitsGpus = whole.gpus.every(
    (all, index) => needed(all, fixed.gpus[index] ?? 0) <= (request.gpus[index] as GpuSide).free,
  );
  const isWhole = placement.gpuLayers === request.kvBytesByLayer.length;
  return (
    fitsGpus &&
    (isWhole || Math.max(request.host.loadingBytes, needed(whole.host, fixed.host)) <= request.host.free)
  );
}
