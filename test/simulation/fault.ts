import type { Patch } from './patched-modules';

/** A mistake someone could make in the scheduler. The simulation must notice each of them. */
export interface Fault {
  readonly name: string;
  readonly patches: readonly Patch[];
}

export const fault = (name: string, file: string, find: string, replace: string): Fault => ({
  name,
  patches: [{ file, find, replace }],
});
