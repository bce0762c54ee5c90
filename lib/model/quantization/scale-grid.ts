import type { Component } from '../../native/decoder-spec';
import type { StoredTensor } from '../checkpoint-types';
import { type ModuleTensors, SCALE_TYPES } from './module-tensors';

/** Scales of a matrix stored [out, in], and the rows and columns that share one. */
export interface ScaleGrid {
  readonly scales: Component;
  readonly groupRows: number;
  readonly groupColumns: number;
}

/** The blocks that every published model with block scales has. */
const DEFAULT_BLOCK: readonly [number, number] = [128, 128];

/** Reads from the shape whether scales are for the tensor or its halves, for each row, for groups of a row, or for blocks. */
export function scaleGrid(
  tensors: ModuleTensors,
  scale: StoredTensor,
  [rows, columns]: readonly [number, number],
  block: readonly [number, number] = DEFAULT_BLOCK,
): ScaleGrid {
  const grid = (shape: readonly [number, number], groupRows: number, groupColumns: number): ScaleGrid => ({
    scales: tensors.component(scale, SCALE_TYPES, shape),
    groupRows,
    groupColumns,
  });
  const [first = 1, second = 1] = scale.shape;
  if (first === 1 && second === 1) return grid([1, 1], rows, columns);
  if (first === rows && second === 1) return grid([rows, 1], 1, columns);
  const blocks = [Math.ceil(rows / block[0]), Math.ceil(columns / block[1])] as const;
  if (first === blocks[0] && second === blocks[1]) return grid(blocks, ...block);
  if (first === rows && columns % second === 0) return grid([rows, second], 1, columns / second);
  // Gate and up of one tensor, each with a scale.
  if (first === 2 && second === 1 && rows % 2 === 0) return grid([2, 1], rows / 2, columns);
  throw tensors.fault(
    scale,
    `scales for a matrix of [${rows}, ${columns}]: one, [${rows}, 1], [${rows}, groups] or [${blocks.join(', ')}]`,
    `shape [${scale.shape.join(', ')}]`,
  );
}
