import type { PlacedLayers } from './device-types';

/** For people: "layers 0..11 on cuda:0, 12 on cuda:1". */
export function describePlacement(placement: readonly PlacedLayers[]): string {
  const ranges = placement.map(({ device, firstLayer, numLayers }) => {
    const last = firstLayer + numLayers - 1;
    return `${last === firstLayer ? last : `${firstLayer}..${last}`} on ${device}`;
  });
  return `layers ${ranges.join(', ')}`;
}
