import type { DenseTensors } from './dense-decoder';
import type { DecoderSettings } from './settings/decoder-settings';

/** Gate rows come first, then as many up rows. */
export function withFusedGateUp(
  tensors: DenseTensors,
  name: string,
  { intermediateSize }: DecoderSettings,
): DenseTensors {
  const total = 2 * intermediateSize;
  return {
    ...tensors,
    gate: { name, rows: { first: 0, total } },
    up: { name, rows: { first: intermediateSize, total } },
  };
}

/** All q heads, then all k heads, then all v heads. */
export function withFusedQkv(tensors: DenseTensors, name: string, settings: DecoderSettings): DenseTensors {
  const numQRows = settings.numQHeads * settings.headDim;
  const numKRows = settings.numKvHeads * settings.headDim;
  const total = numQRows + numKRows + settings.numKvHeads * settings.valueDim;
  return {
    ...tensors,
    q: { name, rows: { first: 0, total } },
    k: { name, rows: { first: numQRows, total } },
    v: { name, rows: { first: numQRows + numKRows, total } },
  };
}
