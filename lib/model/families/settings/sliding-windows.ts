import type { ConfigReader } from '../../config-reader';
import { quoted, unsupportedModel } from '../../model-file-error';
import { BOUNDS } from './decoder-settings';

type Windows = readonly (number | null)[];

const LAYER_TYPES = ['full_attention', 'sliding_attention'];

/**
 * The window of each layer. Newer configs list a type per layer; for older ones `isSliding` says what the family does.
 * A null window: every layer sees everything.
 */
export function windowsByLayer(
  config: ConfigReader,
  numLayers: number,
  window: number | null,
  isSliding: (layer: number) => boolean,
): Windows {
  const types = config.strings('layer_types');
  if (types === null) return windowsWhere(numLayers, window, isSliding);
  if (types.length !== numLayers) {
    throw config.fault(
      'layer_types',
      `one type for each of the ${numLayers} layers`,
      `${types.length} types`,
    );
  }
  return types.map((type) => {
    if (!LAYER_TYPES.includes(type)) {
      throw unsupportedModel(config.file, `layer type ${quoted(type)}`, LAYER_TYPES);
    }
    return type === 'sliding_attention' ? window : null;
  });
}

export const windowsWhere = (
  numLayers: number,
  window: number | null,
  isSliding: (layer: number) => boolean,
): Windows => Array.from({ length: numLayers }, (_, layer) => (isSliding(layer) ? window : null));

/** Qwen2 and Qwen3: off unless `use_sliding_window`; layers below `max_window_layers` see everything. */
export function qwenWindows(config: ConfigReader, numLayers: number): Windows {
  const isOn = config.boolean('use_sliding_window') ?? false;
  const window = isOn ? config.integer('sliding_window', 1, BOUNDS.contextLength) : null;
  if (window === null) return new Array<number | null>(numLayers).fill(null);
  const firstSliding = config.integer('max_window_layers', 0, BOUNDS.layers) ?? 28;
  return windowsByLayer(config, numLayers, window, (layer) => layer >= firstSliding);
}
