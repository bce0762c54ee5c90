import { AutoglmError } from '../../errors';
import { type PartBytes, splitWeightBytes } from '../../model/gpu-estimate';
import { Limits } from '../../native/abi';
import { checkContextLength, type KvSizing, type KvSizingInput, mebibytes, sizeKvCache } from './kv-sizing';

export interface PlacementInput
  extends Pick<KvSizingInput, 'modelContextLength' | 'contextLength' | 'kvMemory'> {
  readonly weights: PartBytes;
  /** KV bytes of one token in each layer. */
  readonly kvBytesByLayer: readonly number[];
  /** KV bytes of one token of a draft model, which is on the GPU whole; 0 where they are not the default's to size. */
  readonly draftKvPerToken: number;
  readonly gpu: MemorySide;
  readonly host: MemorySide & {
    /** Bytes of all packed weights: they are in the processor's memory while a model is loaded. */
    readonly loadingBytes: number;
  };
  /** How many of the last layers the caller wants on the GPU; null for as many as fit. */
  readonly gpuLayers: number | null;
}

/** `free` is left for weights, pages and `scratch`, the working memory that a model needs there whatever its layers are. */
export interface MemorySide {
  readonly free: number;
  readonly scratch: number;
}

export interface LayerPlacement extends KvSizing {
  /** How many of the last layers are on the GPU, at least 1. */
  readonly gpuLayers: number;
}

/** A default context gives way to the memory down to so many tokens before layers leave the GPU for it. */
const MIN_DEFAULT_CONTEXT = 4096;

/**
 * Decides how many of a model's last layers are on the GPU, with the context and the number of KV pages: all where they
 * fit, else as many as do. What the caller asked for is met, or refused with `out_of_memory` or `invalid_parameter`.
 */
export function placeLayers(input: PlacementInput): LayerPlacement {
  const { modelContextLength, contextLength, kvMemory } = input;
  checkContextLength(input);
  const numLayers = input.weights.layers.length;
  if (input.gpuLayers !== null) checkGpuLayers(input.gpuLayers, numLayers);
  // Contexts in the order of preference: a shorter one is taken only when the caller left it open.
  const wanted = contextLength ?? Math.min(modelContextLength, kvMemory === null ? MIN_DEFAULT_CONTEXT : 1);
  for (const tokens of contextLength === null && kvMemory === null ? [wanted, 1] : [wanted]) {
    for (let gpuLayers = input.gpuLayers ?? numLayers; gpuLayers > 0; gpuLayers -= 1) {
      const need = needOf(input, gpuLayers, tokens);
      if (fits(need)) return { gpuLayers, ...sizeSplit(input, need, tokens) };
      if (input.gpuLayers !== null) break;
    }
  }
  throw refusal(input, contextLength ?? 1);
}

function checkGpuLayers(gpuLayers: number, numLayers: number): void {
  if (gpuLayers <= numLayers) return;
  throw new AutoglmError(
    'invalid_parameter',
    `expected gpuLayers to be "auto" or an integer in 1..${numLayers}, the model's layers, got ${gpuLayers}`,
    { details: { path: 'gpuLayers', found: gpuLayers, allowed: `"auto" or 1..${numLayers}` } },
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
  readonly gpu: SideNeed;
  /** Null where the GPU has all layers. */
  readonly host: SideNeed | null;
}

/** What each side needs for sequences of `tokens`, or for the KV cache that the caller asked for. */
function needOf(input: PlacementInput, gpuLayers: number, tokens: number): SplitNeed {
  const { weights, kvBytesByLayer, draftKvPerToken, gpu, host, kvMemory } = input;
  const first = kvBytesByLayer.length - gpuLayers;
  const bytes = splitWeightBytes(weights, gpuLayers);
  const hostKv = sum(kvBytesByLayer.slice(0, first));
  const gpuKv = sum(kvBytesByLayer.slice(first)) + draftKvPerToken;
  const kvOf = (perToken: number): number =>
    kvMemory === null
      ? 2 * pageTokens(tokens) * perToken
      : Math.ceil((kvMemory * perToken) / (hostKv + gpuKv));
  const sideOf = (fixed: number, kvPerToken: number, free: number, least: number): SideNeed => ({
    fixed,
    kvPerToken,
    needed: Math.max(least, fixed + kvOf(kvPerToken)),
    free,
  });
  return {
    gpu: sideOf(bytes.gpu + gpu.scratch, gpuKv, gpu.free, 0),
    host: first === 0 ? null : sideOf(bytes.host + host.scratch, hostKv, host.free, host.loadingBytes),
  };
}

const fits = ({ gpu, host }: SplitNeed): boolean =>
  gpu.needed <= gpu.free && (host === null || host.needed <= host.free);

/** Pages lie on both sides, so the side with less room for them decides: as one memory that is as large. */
function sizeSplit(
  { modelContextLength, contextLength, kvMemory }: PlacementInput,
  need: SplitNeed,
  tokens: number,
): KvSizing {
  const sides = need.host === null ? [need.gpu] : [need.gpu, need.host];
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

/** Of the splits that the caller allows, tells about the one whose GPU's side fits with the most layers. */
function refusal(input: PlacementInput, tokens: number): AutoglmError {
  const numLayers = input.weights.layers.length;
  const whole = needOf(input, input.gpuLayers ?? numLayers, tokens);
  if (whole.host === null && (input.gpuLayers !== null || numLayers === 1)) {
    return outOfMemory(`the model with its KV cache needs ${figures(whole)}`, whole, numLayers);
  }
  let gpuLayers = input.gpuLayers ?? numLayers - 1;
  const fitsGpu = (layers: number): boolean => {
    const { gpu } = needOf(input, layers, tokens);
    return gpu.needed <= gpu.free;
  };
  while (input.gpuLayers === null && gpuLayers > 1 && !fitsGpu(gpuLayers)) gpuLayers -= 1;
  const split = needOf(input, gpuLayers, tokens);
  const alone =
    input.gpuLayers === null
      ? `the model fits neither the GPU, where it needs ${figures(whole)}, nor split: `
      : '';
  const text = `${alone}with ${gpuLayers} of its ${numLayers} layers on the GPU it needs ${figures(split)}`;
  return outOfMemory(text, split, gpuLayers);
}

function figures({ gpu, host }: SplitNeed): string {
  const onGpu = `${mebibytes(gpu.needed)} while ${mebibytes(gpu.free)} are free there`;
  if (host === null) return onGpu;
  return `${onGpu} and, of the machine's memory, ${mebibytes(host.needed)} while ${mebibytes(host.free)} are free`;
}

function outOfMemory(text: string, { gpu, host }: SplitNeed, gpuLayers: number): AutoglmError {
  return new AutoglmError('out_of_memory', text, {
    hint: 'Lower contextLength or kvCache.memory, take a smaller quantization, or free memory.',
    details: {
      gpuLayers,
      needed: { gpu: gpu.needed, host: host?.needed ?? 0 },
      free: { gpu: gpu.free, host: host?.free ?? null },
    },
  });
}

/** Of the pages that hold so many tokens. */
const pageTokens = (tokens: number): number => Math.ceil(tokens / Limits.pageSize) * Limits.pageSize;

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
