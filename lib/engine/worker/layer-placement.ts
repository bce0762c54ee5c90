import { AutoglmError } from '../../errors';
import { gpuEndBytes, type PartBytes, splitWeightBytes } from '../../model/gpu-estimate';
import { Limits } from '../../native/abi';
import { checkContextLength, type KvSizing, type KvSizingInput, mebibytes, sizeKvCache } from './kv-sizing';
import { cutLayers, type Stage } from './layer-cuts';

export interface PlacementInput
  extends Pick<KvSizingInput, 'modelContextLength' | 'contextLength' | 'kvMemory'> {
  readonly weights: PartBytes;
  /** KV bytes of one token in each layer. */
  readonly kvBytesByLayer: readonly number[];
  /** KV bytes of one token of a draft model, which is on the last GPU whole; 0 where they are not the default's to size. */
  readonly draftKvPerToken: number;
  /** At least one, in the order of the layers. */
  readonly gpus: readonly GpuSide[];
  /** Whether each GPU gets layers; otherwise as few as the model fits. */
  readonly usesAllGpus: boolean;
  /** Bytes that the last GPU with layers needs besides: for logits, and for a draft model without its pages. */
  readonly lastBytes: number;
  readonly host: MemorySide & {
    /** Bytes of all packed weights: they are in the processor's memory while a model is loaded. */
    readonly loadingBytes: number;
  };
  /** How many of the last layers the caller wants on GPUs; null for as many as fit. */
  readonly gpuLayers: number | null;
}

/** `free` is left for weights, pages and `scratch`, the working memory that a model needs there whatever its layers are. */
export interface MemorySide {
  readonly free: number;
  readonly scratch: number;
}

export interface GpuSide extends MemorySide {
  /** For messages, e.g. `cuda:0`. */
  readonly name: string;
}

export interface LayerPlacement extends KvSizing {
  /** How many of the last layers are on GPUs; 0 on an engine without one. */
  readonly gpuLayers: number;
  /** Which of them are where. */
  readonly stages: readonly Stage[];
}

/** A default context gives way to the memory down to so many tokens before layers leave a GPU for it. */
const MIN_DEFAULT_CONTEXT = 4096;

/**
 * Decides how many of a model's last layers are on GPUs, and which on which, with the context and the number of KV pages:
 * all on one GPU where they fit, the first rather than others, else on as many as it takes, else as many as fit. What the caller asked for is
 * met, or refused with `out_of_memory` or `invalid_parameter`.
 */
export function placeLayers(input: PlacementInput): LayerPlacement {
  const { modelContextLength, contextLength, kvMemory } = input;
  checkContextLength(input);
  checkGpuLayers(input);
  // Contexts in the order of preference: a shorter one is taken only when the caller left it open.
  const wanted = contextLength ?? Math.min(modelContextLength, kvMemory === null ? MIN_DEFAULT_CONTEXT : 1);
  for (const tokens of contextLength === null && kvMemory === null ? [wanted, 1] : [wanted]) {
    for (const split of splitsOf(input)) {
      const need = couldFit(input, split, tokens) ? needOf(input, split, tokens) : null;
      if (need !== null && fits(need)) {
        const stages = need.gpus.map(({ stage }) => stage);
        return { gpuLayers: split.gpuLayers, stages, ...sizeSplit(input, need, tokens) };
      }
    }
  }
  throw refusal(input, contextLength ?? 1);
}

/** The last `gpuLayers` layers on some of the GPUs named, or on all of them where the caller named them. */
interface Split {
  readonly gpuLayers: number;
  readonly gpus: readonly number[];
}

/** In the order of preference: one GPU, the first of several, all of them; then with layers of the processor's. */
function* splitsOf(input: PlacementInput): Generator<Split> {
  const gpuLayers = input.gpuLayers ?? input.weights.layers.length;
  const all = [...input.gpus.keys()];
  if (!input.usesAllGpus) {
    for (const gpu of all) yield { gpuLayers, gpus: [gpu] };
    for (let count = 2; count < all.length; count += 1) yield { gpuLayers, gpus: all.slice(0, count) };
  }
  yield { gpuLayers, gpus: all };
  if (input.gpuLayers !== null) return;
  const least = input.usesAllGpus ? all.length : 1;
  for (let layers = gpuLayers - 1; layers >= least; layers -= 1) yield { gpuLayers: layers, gpus: all };
}

function checkGpuLayers({ weights, gpus, usesAllGpus, gpuLayers }: PlacementInput): void {
  const numLayers = weights.layers.length;
  const least = usesAllGpus ? gpus.length : 1;
  const names = gpus.map(({ name }) => name).join(', ');
  if (least > numLayers) {
    throw new AutoglmError(
      'invalid_parameter',
      `expected a model of at least ${least} layers, one for each of ${names}, got one of ${numLayers}`,
      { details: { path: 'device', found: least, allowed: `1..${numLayers} GPUs` } },
    );
  }
  if (gpuLayers === null || (gpuLayers >= least && gpuLayers <= numLayers)) return;
  const reason = least === 1 ? "the model's layers" : `at least one for each of ${names}`;
  throw new AutoglmError(
    'invalid_parameter',
    `expected gpuLayers to be "auto" or an integer in ${least}..${numLayers}, ${reason}, got ${gpuLayers}`,
    { details: { path: 'gpuLayers', found: gpuLayers, allowed: `"auto" or ${least}..${numLayers}` } },
  );
}

interface SideNeed {
  /** Weights and working memory. */
  readonly fixed: number;
  readonly kvPerToken: number;
  /** With the KV cache, and as much again where only half of what is left may be its. */
  readonly needed: number;
  readonly free: number;
}

interface SplitNeed {
  readonly gpus: readonly (SideNeed & { readonly stage: Stage; readonly name: string })[];
  /** Null where GPUs have all layers. */
  readonly host: SideNeed | null;
}

/** Of the pages of layers with so many KV bytes per token. */
function kvNeed(
  { kvMemory, kvBytesByLayer, draftKvPerToken }: PlacementInput,
  tokens: number,
  perToken: number,
): number {
  if (kvMemory === null) return 2 * pageTokens(tokens) * perToken;
  return Math.ceil((kvMemory * perToken) / (sum(kvBytesByLayer) + draftKvPerToken));
}

/** Whether all GPUs of a split together have the room: far less work than to cut it, and most splits fail here. */
function couldFit(input: PlacementInput, { gpuLayers, gpus }: Split, tokens: number): boolean {
  const first = input.weights.layers.length - gpuLayers;
  const kvPerToken = sum(input.kvBytesByLayer.slice(first)) + input.draftKvPerToken;
  const weights = splitWeightBytes(input.weights, gpuLayers).gpu;
  const room = gpus.map((gpu) => Math.max(0, at(input.gpus, gpu).free - at(input.gpus, gpu).scratch));
  return weights + input.lastBytes + kvNeed(input, tokens, kvPerToken) <= sum(room);
}

/** What each side needs for sequences of `tokens`, or for the KV cache that the caller asked for. */
function needOf(input: PlacementInput, { gpuLayers, gpus }: Split, tokens: number): SplitNeed {
  const { weights, kvBytesByLayer, draftKvPerToken, host } = input;
  const numLayers = kvBytesByLayer.length;
  const first = numLayers - gpuLayers;
  const weightsUpTo = runningSums(weights.layers.map(({ gpu }) => gpu));
  const kvUpTo = runningSums(kvBytesByLayer);
  const kvOf = (perToken: number): number => kvNeed(input, tokens, perToken);
  const sideOf = (fixed: number, kvPerToken: number, free: number, least: number): SideNeed => ({
    fixed,
    kvPerToken,
    needed: Math.max(least, fixed + kvOf(kvPerToken)),
    free,
  });
  const needOn = (cut: Stage): SplitNeed['gpus'][number] => {
    const stage = { ...cut, gpu: at(gpus, cut.gpu) };
    const { free, scratch, name } = at(input.gpus, stage.gpu);
    const isLast = stage.end === numLayers;
    const layers = at(weightsUpTo, stage.end) - at(weightsUpTo, stage.first);
    const ends = gpuEndBytes(weights, stage.first === 0, isLast) + (isLast ? input.lastBytes : 0);
    const kv = at(kvUpTo, stage.end) - at(kvUpTo, stage.first) + (isLast ? draftKvPerToken : 0);
    return { ...sideOf(layers + ends + scratch, kv, free, 0), stage, name };
  };
  const fullness = (stage: Stage): number => {
    const { needed, free } = needOn(stage);
    return needed / Math.max(1, free);
  };
  const hostBytes = splitWeightBytes(weights, gpuLayers).host + host.scratch;
  return {
    gpus: cutLayers(first, numLayers, gpus.length, input.usesAllGpus, fullness).map(needOn),
    host: first === 0 ? null : sideOf(hostBytes, at(kvUpTo, first), host.free, host.loadingBytes),
  };
}

const sidesOf = ({ gpus, host }: SplitNeed): readonly SideNeed[] => (host === null ? gpus : [...gpus, host]);

const fitsAll = (sides: readonly SideNeed[]): boolean => sides.every(({ needed, free }) => needed <= free);
const fits = (need: SplitNeed): boolean => fitsAll(sidesOf(need));

/** Pages lie on all sides, so the side with the least room for them decides: as one memory that is as large. */
function sizeSplit(
  { modelContextLength, contextLength, kvMemory }: PlacementInput,
  need: SplitNeed,
  tokens: number,
): KvSizing {
  const sides = sidesOf(need);
  const kvBytesPerToken = sum(sides.map(({ kvPerToken }) => kvPerToken));
  const room = sides.map(({ fixed, free, kvPerToken }) =>
    Math.floor(((free - fixed) / kvPerToken) * kvBytesPerToken),
  );
  // Known to fit: a quotient above must not be rounded below it.
  const least = kvMemory ?? 2 * pageTokens(tokens) * kvBytesPerToken;
  return sizeKvCache({
    modelContextLength,
    contextLength,
    kvMemory,
    kvBytesPerToken,
    freeBytes: Math.max(least, Math.min(...room)),
  });
}

/** Of the splits that the caller allows, tells about the one whose GPUs' sides fit with the most layers. */
function refusal(input: PlacementInput, tokens: number): AutoglmError {
  const numLayers = input.weights.layers.length;
  const numGpus = input.gpus.length;
  const gpus = [...input.gpus.keys()];
  const least = input.usesAllGpus ? numGpus : 1;
  const needWith = (gpuLayers: number): SplitNeed => needOf(input, { gpuLayers, gpus }, tokens);
  const whole = needWith(input.gpuLayers ?? numLayers);
  if (whole.host === null && (input.gpuLayers !== null || numLayers === least)) {
    return outOfMemory(`the model with its KV cache needs ${figures(input, whole)}`, whole, numLayers);
  }
  let gpuLayers = input.gpuLayers ?? numLayers - 1;
  const fitsGpus = (layers: number): boolean =>
    couldFit(input, { gpuLayers: layers, gpus }, tokens) && fitsAll(needWith(layers).gpus);
  while (input.gpuLayers === null && gpuLayers > least && !fitsGpus(gpuLayers)) gpuLayers -= 1;
  const split = needWith(gpuLayers);
  const place = numGpus === 1 ? 'the GPU' : 'the GPUs';
  const alone =
    input.gpuLayers === null
      ? `the model fits neither ${place}, where it needs ${figures(input, whole)}, nor split: `
      : '';
  const text = `${alone}with ${gpuLayers} of its ${numLayers} layers on ${place} it needs ${figures(input, split)}`;
  return outOfMemory(text, split, gpuLayers);
}

function figures(input: PlacementInput, { gpus, host }: SplitNeed): string {
  const ofGpu = ({ needed, free, name }: SplitNeed['gpus'][number]): string =>
    input.gpus.length === 1
      ? `${mebibytes(needed)} while ${mebibytes(free)} are free there`
      : `${mebibytes(needed)} of ${name} while ${mebibytes(free)} are free there`;
  const onGpus = gpus.map(ofGpu).join(', ');
  if (host === null) return onGpus;
  return `${onGpus} and, of the machine's memory, ${mebibytes(host.needed)} while ${mebibytes(host.free)} are free`;
}

function outOfMemory(text: string, { gpus, host }: SplitNeed, gpuLayers: number): AutoglmError {
  const figuresOf = ({ needed, free }: SideNeed) => ({ needed, free });
  return new AutoglmError('out_of_memory', text, {
    hint: 'Lower contextLength or kvCache.memory, take a smaller quantization, or free memory.',
    details: {
      gpuLayers,
      gpus: gpus.map((gpu) => ({ device: gpu.name, ...figuresOf(gpu) })),
      host: host === null ? null : figuresOf(host),
    },
  });
}

/** Of the pages that hold so many tokens. */
const pageTokens = (tokens: number): number => Math.ceil(tokens / Limits.pageSize) * Limits.pageSize;

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** What the first 0, 1, 2... values add up to. */
function runningSums(values: readonly number[]): readonly number[] {
  const sums = [0];
  for (const value of values) sums.push(at(sums, sums.length - 1) + value);
  return sums;
}

/** An element that is known to be there. */
const at = <T>(values: readonly T[], index: number): T => values[index] as T;
