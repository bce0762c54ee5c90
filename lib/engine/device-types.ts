export type Device = 'auto' | 'cpu' | 'cuda' | `cuda:${number}` | `cuda:${number},${string}`;

export interface GpuInfo {
  /** The driver's own number. */
  readonly index: number;
  readonly name: string;
  readonly uuid: string;
  /** 10 * major + minor. */
  readonly computeCapability: number;
  readonly totalBytes: number;
}

/** Layers that lie side by side on one device, counted from 0. */
export interface PlacedLayers {
  readonly device: 'cpu' | `cuda:${number}`;
  readonly firstLayer: number;
  readonly numLayers: number;
}
