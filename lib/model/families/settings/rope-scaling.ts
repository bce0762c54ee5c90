import type { DecoderSpec, RopeTable } from '../../../native/decoder-spec';

/** How rotary frequencies are stretched beyond the length a model was first trained on. */
export type RopeScaling =
  | { readonly kind: 'none' }
  | { readonly kind: 'linear'; readonly factor: number }
  /** Depends on the sequence's length; up to `originalLength` it changes nothing. */
  | { readonly kind: 'dynamic'; readonly factor: number; readonly originalLength: number }
  | YarnScaling
  | Llama3Scaling
  | LongropeScaling
  /** Each frequency is divided by its own number: how GGUF files store llama3 scaling. */
  | { readonly kind: 'divisors'; readonly divisors: Float32Array };

export interface YarnScaling {
  readonly kind: 'yarn';
  readonly factor: number;
  readonly originalLength: number;
  /** Rotations over the original length above which a frequency is kept, and below which it is divided. */
  readonly betaFast: number;
  readonly betaSlow: number;
  readonly attentionFactor: number;
  /** Rounds the border frequencies to whole indices. */
  readonly truncates: boolean;
}

export interface Llama3Scaling {
  readonly kind: 'llama3';
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalLength: number;
}

export interface LongropeScaling {
  readonly kind: 'longrope';
  readonly shortFactors: readonly number[];
  readonly longFactors: readonly number[];
  readonly originalLength: number;
  readonly attentionFactor: number;
}

/** One way of rotating; most models use the same in all layers. */
export interface RopeSettings {
  readonly base: number;
  readonly rotaryDim: number;
  readonly scaling: RopeScaling;
}

/** One table for each way of rotating, and a second one for long sequences where longrope asks for it. */
export function ropeTables(
  style: RopeTable['style'],
  ropes: readonly RopeSettings[],
  contextLength: number,
): Pick<DecoderSpec, 'ropeTables' | 'ropeSwitchLength'> {
  const tableFor = ({ base, rotaryDim, scaling }: RopeSettings, length: number): RopeTable =>
    ropeTable(style, base, rotaryDim, scaling, length);
  const [rope] = ropes;
  if (
    ropes.length === 1 &&
    rope?.scaling.kind === 'longrope' &&
    contextLength > rope.scaling.originalLength
  ) {
    const { originalLength } = rope.scaling;
    return {
      ropeTables: [tableFor(rope, originalLength), tableFor(rope, contextLength)],
      ropeSwitchLength: originalLength,
    };
  }
  return { ropeTables: ropes.map((each) => tableFor(each, contextLength)), ropeSwitchLength: null };
}

/** The table for sequences of up to `length` tokens. */
export function ropeTable(
  style: RopeTable['style'],
  base: number,
  rotaryDim: number,
  scaling: RopeScaling,
  length: number,
): RopeTable {
  const frequencies = scaledFrequencies(base, rotaryDim, scaling, length);
  const attentionFactor =
    scaling.kind === 'yarn' || scaling.kind === 'longrope' ? scaling.attentionFactor : 1;
  return { rotaryDim, style, frequencies, attentionFactor };
}

function scaledFrequencies(
  base: number,
  rotaryDim: number,
  scaling: RopeScaling,
  length: number,
): Float64Array {
  const plain = plainFrequencies(base, rotaryDim);
  switch (scaling.kind) {
    case 'none':
      return plain;
    case 'linear':
      return plain.map((frequency) => frequency / scaling.factor);
    case 'dynamic': {
      const { factor, originalLength } = scaling;
      const stretch = (factor * Math.max(length, originalLength)) / originalLength - (factor - 1);
      return plainFrequencies(base * stretch ** (rotaryDim / (rotaryDim - 2)), rotaryDim);
    }
    case 'yarn':
      return yarnFrequencies(plain, base, rotaryDim, scaling);
    case 'llama3':
      return plain.map((frequency) => llama3Frequency(frequency, scaling));
    case 'longrope': {
      const { shortFactors, longFactors, originalLength } = scaling;
      const factors = length > originalLength ? longFactors : shortFactors;
      return plain.map((frequency, i) => frequency / (factors[i] as number));
    }
    case 'divisors':
      return plain.map((frequency, i) => frequency / (scaling.divisors[i] as number));
  }
}

function plainFrequencies(base: number, rotaryDim: number): Float64Array {
  return Float64Array.from({ length: rotaryDim / 2 }, (_, i) => base ** ((-2 * i) / rotaryDim));
}

/** Source: YaRN (arXiv 2309.00071), section 3.2: high frequencies stay, low ones are interpolated, a ramp between. */
function yarnFrequencies(
  plain: Float64Array,
  base: number,
  rotaryDim: number,
  { factor, originalLength, betaFast, betaSlow, truncates }: YarnScaling,
): Float64Array {
  const borderOf = (rotations: number): number =>
    (rotaryDim * Math.log(originalLength / (rotations * 2 * Math.PI))) / (2 * Math.log(base));
  const fast = borderOf(betaFast);
  const slow = borderOf(betaSlow);
  const low = Math.max(truncates ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncates ? Math.ceil(slow) : slow, rotaryDim - 1);
  const width = high === low ? 0.001 : high - low;
  return plain.map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / width, 0), 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
}

/** The factor by which yarn multiplies cos and sin when the config does not say. */
export function yarnAttentionFactor(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/** The factor by which longrope multiplies cos and sin, of short sequences too, when the config does not say. */
export function longropeAttentionFactor(factor: number, originalLength: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalLength));
}

/** Source: Llama 3.1's rope_scaling: by wavelength, kept, divided by the factor, or blended between the two. */
function llama3Frequency(frequency: number, scaling: Llama3Scaling): number {
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalLength } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < originalLength / highFrequencyFactor) return frequency;
  if (wavelength > originalLength / lowFrequencyFactor) return frequency / factor;
  const blend =
    (originalLength / wavelength - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return ((1 - blend) * frequency) / factor + blend * frequency;
}
