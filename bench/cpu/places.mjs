// Where the benchmark keeps what it builds and downloads: nothing of it is committed.
import { join } from 'node:path';
import { root } from '../../scripts/run.mjs';

const cache = join(root, '.cache');

export const places = {
  llamaSource: join(cache, 'llama.cpp'),
  llamaBuild: join(cache, 'llama.cpp-build'),
  ourBuild: join(cache, 'bench-native'),
  models: join(cache, 'bench-models'),
  /** In place of the user's own: what this package would keep there. */
  ownCache: join(cache, 'bench-own'),
  python: join(cache, 'bench-python'),
};
