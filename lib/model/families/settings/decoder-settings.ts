import type { Activation } from '../../../native/abi';
import type { CheckpointWarning } from '../../checkpoint-types';
import type { ConfigReader } from '../../config-reader';
import type { RopeSettings } from './rope-scaling';

/** What a config says about a decoder, whichever format it was read from. */
export interface DecoderSettings {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numQHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly epsilon: number;
  readonly contextLength: number;
  readonly activation: Activation;
  /** Multiplies q.k. */
  readonly attentionScale: number;
  readonly attentionSoftCap: number | null;
  readonly logitSoftCap: number | null;
  /** Multiplies the rows of the embedding. */
  readonly embeddingScale: number;
  readonly ropes: readonly RopeSettings[];
  /** By layer: index into `ropes`, or null for a layer without rotation. */
  readonly layerRopes: readonly (number | null)[];
  /** Null: the config leaves it open, so the presence of a head tensor decides. */
  readonly isTied: boolean | null;
  /** By layer; null where all tokens are visible. */
  readonly slidingWindows: readonly (number | null)[];
  readonly warnings: readonly CheckpointWarning[];
}

/** The settings that most families leave alone. */
export function plainAttention(
  numLayers: number,
  headDim: number,
): Pick<
  DecoderSettings,
  'attentionScale' | 'attentionSoftCap' | 'logitSoftCap' | 'embeddingScale' | 'layerRopes' | 'slidingWindows'
> {
  return {
    attentionScale: headDim ** -0.5,
    attentionSoftCap: null,
    logitSoftCap: null,
    embeddingScale: 1,
    layerRopes: new Array<number | null>(numLayers).fill(0),
    slidingWindows: new Array<number | null>(numLayers).fill(null),
  };
}

/**
 * Bounds of what a config may ask for, well above every published model. They keep a damaged or hostile config from
 * costing more than its file: a layer count of 2^31 is refused before a list of layers exists.
 */
export const BOUNDS = {
  layers: 1024,
  heads: 1024,
  headDim: 1024,
  hiddenSize: 1 << 17,
  intermediateSize: 1 << 20,
  vocabSize: 1 << 24,
  contextLength: 1 << 27,
  experts: 4096,
} as const;

/** The settings without layers that follow those of the model itself: they predict further tokens. */
export function withoutLastLayers(settings: DecoderSettings, count: number): DecoderSettings {
  const numLayers = settings.numLayers - count;
  return {
    ...settings,
    numLayers,
    layerRopes: settings.layerRopes.slice(0, numLayers),
    slidingWindows: settings.slidingWindows.slice(0, numLayers),
  };
}

/** Matches the tensors of `count` layers behind the first `numLayers`; null for none. */
export function extraLayers(prefix: string, numLayers: number, count: number): RegExp | null {
  if (count === 0) return null;
  const layers = Array.from({ length: count }, (_, i) => numLayers + i);
  return new RegExp(`^${prefix.replaceAll('.', '\\.')}\\.(?:${layers.join('|')})\\.`);
}

/** A norm's epsilon: positive and far below one; NaN and the like have already failed as not finite. */
export function checkedEpsilon(reader: ConfigReader, key: string, value: number): number {
  if (value > 0 && value < 0.1) return value;
  throw reader.fault(key, 'a number between 0 and 0.1', String(value));
}

/** A factor or a base: a positive number. */
export function positive(reader: ConfigReader, key: string): number | null {
  const value = reader.number(key);
  if (value !== null && value <= 0) throw reader.fault(key, 'a number above 0', String(value));
  return value;
}

export function requirePositive(reader: ConfigReader, key: string): number {
  const value = positive(reader, key);
  if (value === null) throw reader.fault(key, 'a number above 0', 'nothing');
  return value;
}

/** Query heads are shared out evenly over the key/value heads. */
export function checkHeads(reader: ConfigReader, key: string, numQHeads: number, numKvHeads: number): void {
  if (numKvHeads <= numQHeads && numQHeads % numKvHeads === 0) return;
  throw reader.fault(key, `a divisor of the ${numQHeads} query heads`, String(numKvHeads));
}

/** Rotation works on pairs inside a head. */
export function checkRotaryDim(
  reader: ConfigReader,
  key: string,
  rotaryDim: number,
  headDim: number,
): number {
  if (rotaryDim >= 2 && rotaryDim <= headDim && rotaryDim % 2 === 0) return rotaryDim;
  throw reader.fault(key, `an even number of rotated dims in 2..${headDim}`, String(rotaryDim));
}
